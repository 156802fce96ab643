"""A real SMTP server on a loopback address that puts every mail into a maildir.

Usage: mail_server.py ADDRESS:PORT MAILDIR. Port 0 takes a free one; the first line of output names it.
A recipient whose name begins with `reject-` or `busy-` is refused for good or for now.
"""

import asyncio
import mailbox
import sys

from aiosmtpd.smtp import SMTP


class Keeper:
    def __init__(self, folder):
        self.mails = mailbox.Maildir(folder, create=True)

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("reject-"):
            return "550 no such mailbox"
        if address.startswith("busy-"):
            return "451 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.mails.add(envelope.original_content)
        return "250 kept"


async def serve(address, folder):
    host, port = address.rsplit(":", 1)
    keeper = Keeper(folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(keeper, hostname="localhost"), host, int(port))
    host, port = server.sockets[0].getsockname()[:2]
    print(f"listening on {host}:{port}", flush=True)
    await server.serve_forever()


try:
    asyncio.run(serve(*sys.argv[1:3]))
except OSError as error:
    sys.exit(f"the mailbox cannot listen on {sys.argv[1]}: {error.strerror} (MAIL_PORT=... takes another)")
except KeyboardInterrupt:
    pass
