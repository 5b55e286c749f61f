// Finds rows in long tables, opens what is folded where a link leads there, and for paper.
(() => {
  "use strict";
  const opened = () => {
    const target = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
    for (let above = target; above; above = above.parentElement) {
      if (above.tagName === "DETAILS") above.open = true;
    }
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", opened);
  opened();

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll(".story details:not([open]):not(.sl-map-table)")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });

  for (const table of document.querySelectorAll("table[data-filtered]")) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 12) continue;
    const label = document.createElement("label");
    const input = document.createElement("input");
    const found = document.createElement("span");
    label.className = "filter";
    input.type = "search";
    found.setAttribute("role", "status");
    label.append("Find ", input, " ", found);
    table.parentElement.before(label);
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let count = 0;
      for (const row of rows) {
        row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
        if (!row.hidden) count += 1;
      }
      found.textContent = wanted ? `${count} of ${rows.length}` : "";
    });
  }
})();
