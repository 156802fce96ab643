"""Prints the table of hosts from the results that the tests left in target/hosts."""

from pathlib import Path

HOSTS = {
    "Wasmtime": "wasmtime serve",
    "Wash": "wash dev (wasmCloud)",
    "WashPostgres": "the same, with PostgreSQL",
    "Spin": "spin up",
    "SpinPostgres": "the same, with PostgreSQL",
}

results = {}
for file in sorted(Path("target/hosts").iterdir()):
    behaviour, host = file.name.rsplit(".", 1)
    results.setdefault(behaviour, {})[host] = file.read_text()

print("# What each host does with work after the response\n")
print("Written by `make hosts` from the tests' own results: a row is a test of that name in")
print("`tests/all`. *skipped*: the host was not on the machine. An empty cell: it has nothing to do with that")
print("store, or with directories on a host that has none.\n")
print("| behaviour |", " | ".join(HOSTS.values()), "|")
print("| --- |", " --- |" * len(HOSTS), sep="")
for behaviour, row in results.items():
    cells = " | ".join(row.get(host, "") for host in HOSTS)
    print(f"| {behaviour.replace('_', ' ')} | {cells} |")
