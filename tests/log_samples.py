"""Flow logs for the tests, a few hundred records of each format."""

import json
from typing import Final

__all__ = ["CSV", "FORMATS", "GOFLOW2", "LOKI", "NETOBSERV", "NFDUMP", "VPC", "ZEEK", "ZEEK_JSON"]

RECORDS: Final = 120
START: Final = 1_764_000_000


def _client(number: int) -> str:
    return f"10.0.{number % 3}.{number % 200 + 1}"


def _zeek() -> bytes:
    """As conn.log has it: longer connections end later, so the log is not in order of starts."""
    fields = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes"
    fields += " resp_bytes conn_state history orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes"
    lines = ["#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-"]
    lines += ["#path\tconn", "\t".join(["#fields", *fields.split()])]
    for number in range(RECORDS):
        start = START + number / 10 - (number * 7) % 31
        state, history, answers = (("SF", "ShADadFf", 5), ("S0", "S", 0), ("REJ", "Sr", 1))[
            number % 3
        ]
        values = [f"{start:.6f}", f"C{number:05}", _client(number), str(30_000 + number)]
        values += ["10.0.9.9", str(80 + number % 5), "tcp", "-", "0.250000", "10", "20", state]
        values += [history, "6", "400", str(answers), str(answers * 60)]
        lines.append("\t".join(values))
        if number == RECORDS // 2:
            lines += ["#close\t2025-11-24", *lines[:6]]  # rotated, and joined again
    return "\n".join([*lines, ""]).encode()


def _zeek_json() -> bytes:
    lines = []
    for number in range(RECORDS):
        ends = {"id.orig_h": _client(number), "id.orig_p": 30_000 + number}
        ends |= {"id.resp_h": "10.0.9.9", "id.resp_p": 53}
        base = {"ts": START + number / 10 - (number * 7) % 31, "uid": f"C{number:05}", **ends}
        dns = {"trans_id": number, "query": f"n{number}.example.org", "qtype": 1, "qtype_name": "A"}
        dns |= {"rcode": 0, "rejected": False, "answers": ["192.0.2.7", "cname.example.org"]}
        conn = {"proto": "udp", "service": "dns", "conn_state": "SF", "missed_bytes": 0}
        lines.append({**base, "proto": "udp", **dns} if number % 2 else {**base, **conn})
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def _netobserv_record(number: int) -> dict[str, object]:
    start = (START + number) * 1_000 - (number * 7) % 31_000
    record: dict[str, object] = {"SrcAddr": _client(number), "DstAddr": "10.0.9.9", "Proto": 6}
    record |= {"SrcPort": 30_000 + number, "DstPort": 443, "Etype": 2048, "Flags": 2, "Bytes": 74}
    record |= {"Packets": 1, "TimeFlowStartMs": start, "TimeFlowEndMs": start + 100}
    return record | {"FlowDirection": number % 2, "AgentIP": "10.0.9.1"}


def _netobserv() -> bytes:
    return "".join(f"{json.dumps(_netobserv_record(n))}\n" for n in range(RECORDS)).encode()


def _loki() -> bytes:
    streams = []
    for layer in ("infra", "app"):
        labels = {"app": "netobserv-flowcollector", "K8S_FlowLayer": layer}
        labels |= {"SrcK8S_Namespace": "shop", "SrcK8S_OwnerName": "web"}
        numbers = range(RECORDS // 2) if layer == "app" else range(RECORDS // 2, RECORDS)
        values = [[str(n), json.dumps(_netobserv_record(n))] for n in reversed(numbers)]
        streams.append({"stream": labels, "values": values})
    result = {"resultType": "streams", "result": streams, "stats": {"summary": {"splits": 61}}}
    return json.dumps({"status": "success", "data": result}, indent=2).encode()


def _goflow2() -> bytes:
    lines = []
    for number in range(RECORDS):
        start = (START + number - (number * 7) % 31) * 1_000_000_000
        record: dict[str, object] = {"type": "IPFIX", "time_received_ns": start + 9}
        record |= {"sampling_rate": 0}
        record |= {"sampler_address": "10.0.9.1", "time_flow_start_ns": start, "bytes": 60}
        record |= {"packets": 1, "src_addr": _client(number), "dst_addr": "10.0.9.9"}
        record |= {"etype": "IPv4", "proto": "TCP", "src_port": 30_000 + number, "dst_port": 22}
        lines.append(json.dumps(record | {"tcp_flags": 2}))
    return "".join(f"{line}\n" for line in lines).encode()


def _nfdump() -> bytes:
    objects = []
    for number in range(RECORDS):
        second = (number * 7) % 60
        record: dict[str, object] = {"type": "FLOW"}
        record |= {"first": f"2025-11-24T09:{number % 60:02}:{second:02}.118"}
        record |= {"last": f"2025-11-24T09:{number % 60:02}:{second:02}.900", "in_packets": 1}
        record |= {"in_bytes": 60, "proto": 6, "tcp_flags": "......S.", "src_port": 30_000 + number}
        record |= {"dst_port": 22, "src4_addr": _client(number), "dst4_addr": "10.0.9.9"}
        inside = ",\n".join(f'\t"{key}" : {json.dumps(value)}' for key, value in record.items())
        objects.append(f"{{\n{inside}\n}}")
    return f"[\n{f',{chr(10)}'.join(objects)}]\n".encode()


def _vpc() -> bytes:
    header = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets"
    header += " bytes start end action log-status tcp-flags"
    lines = [header]
    for number in range(RECORDS):
        start = START + number - (number * 7) % 31
        verdict = "REJECT" if number % 9 == 0 else "ACCEPT"
        ends = f"{_client(number)} 10.0.9.9 {30_000 + number} 443 6"
        lines.append(f"3 123456789010 eni-1 {ends} 1 60 {start} {start + 59} {verdict} OK 2")
    return "\n".join([*lines, ""]).encode()


def _csv() -> bytes:
    lines = ["When,From,Port,To,To port,Proto,Note"]
    for number in range(RECORDS):
        start = START + number - (number * 7) % 31
        ends = f"{_client(number)},{30_000 + number},10.0.9.9,443,tcp"
        lines.append(
            f'{start},{ends},"said ""no"", twice"' if number % 50 == 0 else f"{start},{ends},"
        )
    return "\n".join([*lines, ""]).encode()


ZEEK: Final = _zeek()
ZEEK_JSON: Final = _zeek_json()
NETOBSERV: Final = _netobserv()
LOKI: Final = _loki()
GOFLOW2: Final = _goflow2()
NFDUMP: Final = _nfdump()
VPC: Final = _vpc()
CSV: Final = _csv()
CSV_COLUMNS: Final = {
    "time": "When",
    "src_ip": "From",
    "src_port": "Port",
    "dst_ip": "To",
    "dst_port": "To port",
    "protocol": "Proto",
}

FORMATS: Final = {
    "zeek": ZEEK,
    "zeek json": ZEEK_JSON,
    "netobserv": NETOBSERV,
    "loki": LOKI,
    "goflow2": GOFLOW2,
    "nfdump": NFDUMP,
    "vpc": VPC,
    "csv": CSV,
}
