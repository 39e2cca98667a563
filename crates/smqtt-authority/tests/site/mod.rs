//! An authority in a directory that vanishes, its service, and a small HTTPS client.
#![allow(dead_code)] // each test file uses its part

pub(crate) mod administrator;
pub(crate) mod postgres;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use smqtt_pki::enrolment::{EnrolResponse, Problem, ProblemCode};
use smqtt_pki::tls::pinned_client_config;
use smqtt_pki::{
    CertificateAuthority, CertificateRequest, DeviceId, Fingerprint, IdentityKey, ServerName,
    UnixTime, Validity,
};

/// An authority, just made: on PostgreSQL for who stands in a module `with_postgres`.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: Option<postgres::Server>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self::nowhere();
        site.ok(&["init"]);
        site
    }

    /// Where an authority could be made.
    pub(crate) fn nowhere() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            server: Self::ON_POSTGRES.then(postgres::Server::start),
        }
    }

    pub(crate) const ON_POSTGRES: bool = {
        // `postgres::with_postgres::FILE::site`, or `FILE::site`.
        let (path, prefix) = (module_path!().as_bytes(), b"postgres::with_postgres::");
        let mut at = 0;
        while at < prefix.len() && at < path.len() && path[at] == prefix[at] {
            at += 1;
        }
        at == prefix.len()
    };

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("authority")
    }

    /// A command on this authority.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.args(args).arg("--dir").arg(self.path());
        if let Some(server) = &self.server {
            command.env("SMQTT_DATABASE", server.url());
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The output of a command that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.ok(&["fingerprint"]).trim().parse().unwrap()
    }

    /// Registers a device and returns its token.
    pub(crate) fn add(&self, name: &str, attributes: &str) -> String {
        self.ok(&["device", "add", name, "--attributes", attributes])
            .trim()
            .to_owned()
    }

    pub(crate) fn device(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["device", "show", name, "--json"])).unwrap()
    }

    /// The audit log's rows of enrolments: device and outcome.
    pub(crate) fn enrolments(&self) -> Vec<(String, String)> {
        let text = self.ok(&["audit", "list", "--json"]);
        let rows = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        rows.filter(|row| row["action"] == "enrol")
            .map(|row| (field(&row, "subject"), field(&row, "outcome")))
            .collect()
    }

    /// The first column of what the register answers.
    pub(crate) fn rows(&self, sql: &'static str) -> Vec<String> {
        use sqlx::Row;
        let text = |row: &sqlx::any::AnyRow| {
            row.try_get::<String, _>(0)
                .or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string()))
                .unwrap()
        };
        self.with_register(async |pool| {
            let rows = sqlx::query(sql).fetch_all(pool).await.unwrap();
            rows.iter().map(text).collect()
        })
    }

    /// Changes the register behind the program's back.
    pub(crate) fn execute(&self, sql: &'static str) -> Result<(), sqlx::Error> {
        self.with_register(async |pool| sqlx::query(sql).execute(pool).await.map(|_| ()))
    }

    /// Takes away what keeps the audit log from being changed.
    pub(crate) fn drop_guards(&self) {
        let guards: &[&str] = match Self::ON_POSTGRES {
            true => &["DROP TRIGGER audit_is_never_changed ON audit"],
            false => &[
                "DROP TRIGGER audit_is_never_changed",
                "DROP TRIGGER audit_is_never_deleted",
            ],
        };
        for guard in guards {
            self.execute(guard).unwrap();
        }
    }

    /// The register, for who changes it.
    pub(crate) async fn register(&self) -> sqlx::AnyPool {
        sqlx::any::install_default_drivers();
        let url = match &self.server {
            Some(server) => server.url(),
            None => format!("sqlite://{}/register.sqlite", self.path().display()),
        };
        sqlx::AnyPool::connect(&url).await.unwrap()
    }

    /// Acts on the register in a runtime of its own.
    pub(crate) fn block_on<T>(act: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(act)
    }

    /// Does something while nobody else can write to the register.
    pub(crate) fn while_locked<T>(&self, act: impl FnOnce() -> T) -> T {
        self.with_register(async |pool| {
            let mut transaction = pool.begin().await.unwrap();
            // SQLite has one lock; on PostgreSQL who writes takes that of this row.
            let lock = "UPDATE state SET epoch = epoch";
            sqlx::query(lock).execute(&mut *transaction).await.unwrap();
            let done = act();
            transaction.rollback().await.unwrap();
            done
        })
    }

    fn with_register<T>(&self, act: impl AsyncFnOnce(&sqlx::AnyPool) -> T) -> T {
        Self::block_on(async {
            let pool = self.register().await;
            let done = act(&pool).await;
            pool.close().await;
            done
        })
    }

    /// A certificate of a device for the key of this seed that expired a minute ago, PEM; the register knows it.
    pub(crate) fn expired_certificate(&self, device: &DeviceId, seed: u64) -> String {
        let read = |name: &str| std::fs::read_to_string(self.path().join(name)).unwrap();
        let ca = CertificateAuthority::load(&read("ca.key"), read("ca.crt").as_bytes()).unwrap();
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let now = UnixTime::now().as_secs();
        // Not before the root: the span begins with it, and the root's with the test, less the skew.
        let root = ca.trust_anchor().validity().not_before().as_secs();
        let validity = Validity::new(at(root), at(now - 60)).unwrap();
        let request = CertificateRequest::from_pem(&key(seed).csr_pem(device).unwrap()).unwrap();
        let issued = ca
            .issue_device(&request, device, validity, &mut StdRng::seed_from_u64(99))
            .unwrap();
        let (serial, fingerprint) = (issued.serial.to_string(), issued.fingerprint().to_string());
        self.with_register(async |pool| {
            sqlx::query(
                "INSERT INTO certificate (serial, device, subject, fingerprint, not_before, not_after, issued, der)
                 VALUES ($1, $2, $2, $3, $4, $5, $4, $6)",
            )
            .bind(&serial)
            .bind(device.as_str())
            .bind(&fingerprint)
            .bind(i64::try_from(root).unwrap())
            .bind(i64::try_from(now - 60).unwrap())
            .bind(&[0][..])
            .execute(pool)
            .await
            .unwrap();
        });
        issued.chain_pem()
    }

    pub(crate) fn serve(&self) -> Service {
        self.serve_with(&["--broker", "mqtts://127.0.0.1:8883"])
    }

    pub(crate) fn serve_with(&self, more: &[&str]) -> Service {
        let mut args = vec!["serve", "--listen", "127.0.0.1:0"];
        args.extend(more);
        Service::start(self.command(&args), self.fingerprint())
    }
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smqtt-authority"));
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("SMQTT_") || name == "RUST_LOG")
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A running service; killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    fingerprint: Fingerprint,
    log: Arc<Mutex<String>>,
}

impl Service {
    pub(crate) fn start(mut command: Command, fingerprint: Fingerprint) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let shared = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = shared.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        let address = loop {
            let text = log.lock().unwrap().clone();
            let found = text
                .lines()
                .find_map(|line| line.strip_prefix("listening on https://"));
            if let Some(address) = found {
                break address.parse().unwrap();
            }
            assert!(
                child.try_wait().unwrap().is_none(),
                "the service ended: {text}"
            );
            assert!(
                Instant::now() < deadline,
                "the service does not listen: {text}"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        Self {
            child,
            address,
            fingerprint,
            log,
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the service does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A TLS connection that trusts the authority by its fingerprint only.
    pub(crate) fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let config = pinned_client_config(self.fingerprint, &[]).unwrap();
        connect(self.address, config, "127.0.0.1")
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.request(&format!(
            "GET {path} HTTP/1.1\r\nHost: authority\r\nConnection: close\r\n\r\n"
        ))
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Reply {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: authority\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.request_bytes(&request)
    }

    pub(crate) fn request(&self, text: &str) -> Reply {
        self.request_bytes(text.as_bytes())
    }

    fn request_bytes(&self, request: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A server that refuses early may close before it has read everything: what counts is its answer.
        let _ = stream.write_all(request).and_then(|()| stream.flush());
        Reply::read(&mut stream)
    }

    /// Sends an enrolment to a service that may vanish meanwhile.
    pub(crate) fn try_enrol(&self, token: &str, csr: &str) -> io::Result<Reply> {
        let body = serde_json::json!({ "token": token, "csr": csr }).to_string();
        let config = pinned_client_config(self.fingerprint, &[]).map_err(io::Error::other)?;
        post(self.address, config, "/v1/enrol", &body)
    }

    /// Sends a request to a service that may vanish meanwhile.
    pub(crate) fn try_post(
        &self,
        config: ClientConfig,
        path: &str,
        body: &str,
    ) -> io::Result<Reply> {
        post(self.address, config, path, body)
    }

    /// Sends an enrolment.
    pub(crate) fn enrol(&self, token: &str, csr: &str) -> Reply {
        let body = serde_json::json!({ "token": token, "csr": csr }).to_string();
        self.post("/v1/enrol", body.as_bytes())
    }
}

/// Sends a request to whatever answers there; an answer that does not arrive whole is an error.
pub(crate) fn post(
    address: SocketAddr,
    config: ClientConfig,
    path: &str,
    body: &str,
) -> io::Result<Reply> {
    let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
    let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    let mut stream = StreamOwned::new(tls, tcp);
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: authority\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Reply::read(&mut bytes.as_slice()))
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn connect(
    address: SocketAddr,
    config: ClientConfig,
    name: &str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp)
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(&chunk[..n]),
                // The answer to a request that was refused halfway may be followed by a reset.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset && !bytes.is_empty() => break,
                Err(e) => panic!("{e} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec())
            .unwrap()
            .to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The enrolment that it grants.
    pub(crate) fn granted(&self) -> EnrolResponse {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem that it tells, which must be of this code.
    #[track_caller]
    pub(crate) fn refused(&self, code: ProblemCode) -> Problem {
        let problem: Problem = serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)));
        assert_eq!(problem.code(), Some(code), "{problem:?}");
        assert_eq!(
            (self.status, problem.status),
            (code.status(), code.status())
        );
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        problem
    }
}

/// A key, the same for the same seed.
pub(crate) fn key(seed: u64) -> IdentityKey {
    IdentityKey::generate(&mut StdRng::seed_from_u64(seed))
}

/// A certificate request for a name.
pub(crate) fn csr(name: &str, seed: u64) -> String {
    let id: DeviceId = name.parse().unwrap();
    key(seed).csr_pem(&id).unwrap()
}

#[cfg(unix)]
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
