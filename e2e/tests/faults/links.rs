//! Links within a network namespace of the test's own, with a web server in it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use freshet_e2e::faults::{Direction, Namespace, cut, slow};
use freshet_e2e::install::{Cache, Part, install, installed_pod_programs};
use freshet_e2e::servers::Scratch;
use freshet_e2e::servers::process::{ServerProcess, Undertaking};

const PORT: u16 = 8080;
/// How long a connection that is cut is waited for.
const PATIENCE: &str = "3";
const PAGE_BYTES: usize = 200_000;

/// A namespace with nothing but loopback, and a web server on it.
struct Island {
    process: ServerProcess,
    busybox: String,
    _scratch: Scratch,
}

impl Island {
    fn new(name: &str) -> Self {
        let cache = Cache::from_environment();
        install(&cache, &[Part::Pods]).unwrap();
        let busybox = installed_pod_programs(&cache).unwrap().busybox.display().to_string();
        let scratch = Scratch::new(name).unwrap();
        std::fs::write(scratch.path().join("page"), vec![b'x'; PAGE_BYTES]).unwrap();
        let script = format!(
            "ip link set lo up && echo up && exec {busybox} httpd -f -p 127.0.0.1:{PORT} -h {}",
            scratch.path().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", &script]);
        let log = scratch.path().join("log");
        let mut process = ServerProcess::spawn("island", command, &log, &Undertaking::default()).unwrap();
        process.wait_for_line("up", Duration::from_secs(30)).unwrap();
        let island = Self { process, busybox, _scratch: scratch };
        let began = Instant::now();
        while !island.reaches() {
            assert!(began.elapsed() < Duration::from_secs(30), "the web server does not answer");
        }
        island
    }

    fn namespace(&self) -> Namespace {
        Namespace::of_process(self.process.id()).unwrap()
    }

    /// Whether the page comes whole, in time.
    fn reaches(&self) -> bool {
        let mut get = Command::new("nsenter");
        get.args(["-t", &self.process.id().to_string(), "-n", "--", "timeout", PATIENCE, &self.busybox, "wget", "-q"]);
        get.args(["-O", "-", &format!("http://127.0.0.1:{PORT}/page")]).stdin(Stdio::null());
        let output = get.output().unwrap();
        output.status.success() && output.stdout.len() == PAGE_BYTES
    }
}

#[test]
fn a_cut_link_is_silent_and_heals() {
    let island = Island::new("faults-cut");
    for direction in [Direction::Both, Direction::Out, Direction::In] {
        let undo = cut(island.namespace(), PORT, direction).unwrap();
        assert!(!island.reaches(), "{direction:?}: the link is not cut");
        undo.now().unwrap();
        assert!(island.reaches(), "{direction:?}: the link did not heal");
    }
}

#[test]
fn another_port_is_not_cut() {
    let island = Island::new("faults-other-port");
    let _undo = cut(island.namespace(), PORT + 1, Direction::Both).unwrap();
    assert!(island.reaches());
}

#[test]
fn a_cut_link_heals_when_the_test_fails() {
    let island = Island::new("faults-cut-fails");
    let namespace = island.namespace();
    let thread = std::thread::spawn(move || {
        let _undo = cut(namespace, PORT, Direction::Both).unwrap();
        panic!("as a test that fails");
    });
    thread.join().expect_err("it panicked");
    assert!(island.reaches());
}

#[test]
fn a_slow_link_is_slow_and_becomes_fast_again() {
    let island = Island::new("faults-slow");
    let time = || {
        let began = Instant::now();
        assert!(island.reaches());
        began.elapsed()
    };
    // Loopback sends packets of 64 KiB, and a bucket passes none that it can't hold: a link has smaller ones.
    let mtu = ["-t", &island.process.id().to_string(), "-n", "--", "ip", "link", "set", "lo", "mtu", "1500"];
    assert!(Command::new("nsenter").args(mtu).status().unwrap().success());
    let undo = slow(island.namespace(), "lo", 1_000).unwrap();
    // 200 KB at 125 KB a second.
    let slowed = time();
    assert!(slowed > Duration::from_millis(1_200), "the page took {slowed:?}");
    undo.now().unwrap();
    let healed = time();
    assert!(healed < slowed / 2, "the page took {healed:?}, and {slowed:?} before");
}
