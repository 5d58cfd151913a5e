//! A redis-server of the test's own.

use std::{
    env,
    ffi::OsString,
    fs, io,
    net::TcpListener,
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use redis::{Client, cmd};

/// Names the program; without it, it is the one on the path.
const PROGRAM: &str = "BUTTRESS_REDIS_SERVER";

/// A server on a port of its own, with a scratch folder of its own. Ended, and the folder removed, when dropped:
/// also when the test fails.
#[derive(Debug)]
pub(super) struct RedisServer {
    port: u16,
    folder: PathBuf,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one, and waits until it answers.
    pub(super) async fn start() -> Self {
        static NTH: AtomicUsize = AtomicUsize::new(0);

        let name = format!("buttress-hosts-{}-{}", process::id(), NTH.fetch_add(1, Relaxed));
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        // The system's choice, given back: redis takes no port that is already bound.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { port, folder, child: None };
        server.start_again().await;
        server
    }

    /// Starts it on the port it had, and waits until it answers.
    pub(super) async fn start_again(&mut self) {
        let program = env::var_os(PROGRAM).unwrap_or_else(|| OsString::from("redis-server"));
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let child = Command::new(&program)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--port")
            .arg(self.port.to_string())
            .arg("--dir")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap_or_else(|why| {
            panic!(
                "{program:?}: {why}; `cargo xtask test --install` gets a redis-server, {PROGRAM} names one"
            )
        }));
        for _ in 0..500 {
            if self.answers().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no answer from redis: {}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }

    async fn answers(&self) -> bool {
        let Ok(mut connection) = self.client().get_multiplexed_async_connection().await else { return false };
        cmd("PING").exec_async(&mut connection).await.is_ok()
    }

    /// Ends it, by its id, and waits until it is gone.
    pub(super) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let ended: io::Result<_> = child.kill().and_then(|()| child.wait());
            ended.expect("a child of ours can be ended");
        }
    }

    pub(super) fn client(&self) -> Client {
        Client::open(("127.0.0.1", self.port)).unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder); // in the system's scratch folder: what stays there is harmless
    }
}
