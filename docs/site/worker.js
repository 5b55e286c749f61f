// A page that is read from a disk may start no worker, and the search is one. There it runs in a
// hidden frame instead, which has the same global scope but for what it tells.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.title = "search"
      this.waiting = []
      document.body.append(frame)
      const scope = frame.contentWindow
      scope.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      scope.importScripts = (...addresses) => Promise.all(addresses.map(one => load(scope, one)))
      load(scope, address).then(() => {
        this.scope = scope
        this.waiting.splice(0).forEach(data => this.postMessage(data))
      })
    }
    postMessage(data) {
      if (this.scope) this.scope.dispatchEvent(new MessageEvent("message", { data }))
      else this.waiting.push(data)
    }
    terminate() {}
  }

function load(scope, address) {
  return new Promise((done, failed) => {
    const script = scope.document.createElement("script")
    script.src = address
    script.onload = done
    script.onerror = failed
    scope.document.body.append(script)
  })
}
