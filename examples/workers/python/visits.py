"""Visits: counts what is in a web server's access log, by page, by status and by day.

A worker in Python. README.md beside it tells how to build and try it.
"""

import json
import re
from collections import Counter

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import (
    Again, Input, Job, Next, Next_Again, Next_Done, Output, Progress,
    Refusal_BadRequest, Refusal_UnprocessableContent, Refusal_UnsupportedMediaType,
)

LINES = 500
"""How many lines a step reads."""

# 192.0.2.1 - - [27/Nov/2026:10:00:00 +0000] "GET /page?query HTTP/1.1" 200 1234, and maybe more after that.
LINE = re.compile(r'\S+ \S+ .+? \[(\d\d)/(\w{3})/(\d{4}):[^\]]+\] "(?:\S+ )?([^\s"?]+)[^"]*" (\d{3}) (?:\d+|-)')
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


class Worker(exports.Worker):
    def check(self, input: Input) -> None:
        kind = (input.content_type or "none").split(";")[0].strip().lower()
        if kind != "text/plain":
            raise Err(Refusal_UnsupportedMediaType(f"unsupported Content-Type: {kind} (expected text/plain)"))
        try:
            lines = input.body.decode().splitlines()
        except UnicodeDecodeError as error:
            raise Err(Refusal_BadRequest(f"invalid input: {error} (expected UTF-8)"))
        if not any(map(LINE.match, lines)):
            first = lines[0][:80] if lines else ""
            expected = "expected an access log in the common or combined format"
            raise Err(Refusal_UnprocessableContent(f"nothing to count: {len(lines)} lines, first `{first}` ({expected})"))

    def step(self, job: Job) -> Next:
        lines = job.input.body.decode().splitlines()
        # Nothing is kept here between two steps: what this one has to know is in the checkpoint.
        so_far = json.loads(job.checkpoint or '{"read": 0, "bad_lines": 0, "pages": {}, "statuses": {}, "days": {}}')
        counts = {name: Counter(so_far[name]) for name in ("pages", "statuses", "days")}
        begin = so_far["read"]
        read = min(begin + LINES, len(lines))
        bad_lines = so_far["bad_lines"]
        for line in lines[begin:read]:
            match = LINE.match(line)
            if not match or match[2] not in MONTHS:
                bad_lines += 1
                continue
            day, month, year, page, status = match.groups()
            counts["pages"][page] += 1
            counts["statuses"][status] += 1
            counts["days"][f"{year}-{MONTHS.index(month) + 1:02}-{day}"] += 1
        if read < len(lines):
            checkpoint = json.dumps({"read": read, "bad_lines": bad_lines, **counts})
            progress = Progress(read, len(lines), f"lines are read, {bad_lines} of them bad")
            return Next_Again(Again(checkpoint.encode(), progress))
        report = {"visits": counts["pages"].total(), "bad_lines": bad_lines}
        report |= {name: dict(count.most_common()) for name, count in counts.items()}
        return Next_Done(Output("application/json", json.dumps(report, indent=2).encode()))
