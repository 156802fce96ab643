"""Shows the mails of a maildir, as a mail program would: mail.py MAILDIR."""

import email.policy
import os
import sys
from pathlib import Path

mails = sorted(Path(sys.argv[1], "new").glob("*"), key=os.path.getmtime)
for file in mails:
    mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    for name in ("Date", "From", "To", "Subject"):
        print(f"{name}: {mail[name]}")
    print("", mail.get_content().strip(), "", sep="\n")
if not mails:
    print("no mail yet")
