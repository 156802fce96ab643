//! The mail that was promised: by a real SMTP server into a real mailbox.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::host::{Folder, Kind, Setup, on_every_host, root};
use crate::jobs::{Client, id};
use crate::server::Server;
use crate::wire::Connection;

/// How long a mail may take.
const MAIL: Duration = Duration::from_secs(30);

/// An SMTP server that puts every mail into a maildir.
pub struct Mailbox {
    pub url: String,
    folder: Folder,
    _server: Server,
}

impl Mailbox {
    pub fn start() -> Mailbox {
        let folder = Folder::new();
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", root().join(".tools/py")).arg(root().join(".setup/mail_server.py"));
        command.arg("127.0.0.1:0").arg(folder.0.join("mail"));
        let server = Server::start(command);
        let line = server.wait_for("listening on ");
        let url = format!("smtp://{}", line.trim_start_matches("listening on "));
        Mailbox { url, folder, _server: server }
    }

    /// The mails that have come so far, as they came.
    pub fn mails(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.0.join("mail/new")).into_iter().flatten().flatten();
        files.map(|file| fs::read_to_string(file.path()).unwrap().replace("\r\n", "\n")).collect()
    }

    /// The first mail in which all of `texts` stand.
    pub fn wait_for(&self, texts: &[&str]) -> String {
        let begun = Instant::now();
        while begun.elapsed() < MAIL {
            let found = self.mails().into_iter().find(|mail| texts.iter().all(|text| mail.contains(text)));
            if let Some(mail) = found {
                return mail;
            }
            sleep(Duration::from_millis(20));
        }
        panic!("no mail with {texts:?} in {:#?}", self.mails())
    }
}

on_every_host! {
    /// examples/email.rs, the story of the project: the answer at once, the mail when it is done, though the host is
    /// killed in between.
    fn the_mail_comes_after_the_answer(kind: Kind) -> String {
        let (mailbox, data) = (Mailbox::start(), Folder::new());
        let start = || {
            let setup = Setup::new(kind, "examples/email").data(&data.0).variable("AFTERACK_LEASE", "2s");
            let setup = setup.variable("AFTERACK_SMTP", &mailbox.url);
            setup.variable("AFTERACK_MAIL_FROM", "afterack@example.org").start()
        };
        let host = start();
        let job = id(&Connection::open(host.address).post("/jobs/email", "", b"visitor@example.com"));
        assert!(mailbox.mails().is_empty(), "the mail came before the answer");
        Client(&host).wait_until(&job, |job| job["progress"]["done"] == 1);
        drop(host);
        let host = start();
        if kind.is_wash() {
            // The guest's loopback is its own there: a mail server on the machine's is out of reach.
            let job = Client(&host).wait_until(&job, |job| job["error"].is_string());
            assert!(mailbox.mails().is_empty());
            assert!(job["error"].to_string().contains("connect"), "{job}");
            return "no: a guest's loopback is not the machine's".into();
        }
        Client(&host).wait_for(&job, "succeeded");
        let mail = mailbox.wait_for(&["To: <visitor@example.com>", "Subject: Yup, all done."]);
        assert!(mail.contains(&format!("Message-ID: <{job}@afterack>")), "{mail}");
        assert_eq!(mailbox.mails().len(), 1);
        "yes".into()
    }
}
