//! A writer to a local folder is killed with SIGKILL again and again: what is listed is whole, and what was
//! acknowledged is there. It has a `main` of its own, because it is its own writer.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test with real processes and real time")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use freshet_state::store::{Created, open};

const KILLS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, url, run] = &arguments[..]
        && command == "write-until-killed"
    {
        write(url, run);
    } else if arguments.iter().any(|argument| argument == "--list") {
        // Asked for ignored tests, the list is empty: there are none.
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("killed_writers_leave_whole_objects_or_none: test");
        }
    } else {
        check();
        println!("test killed_writers_leave_whole_objects_or_none ... ok");
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Objects of 1 MiB that are one byte over and over, then that byte's place in the row.
fn write(url: &str, writer: &str) {
    let store = open(url, None).unwrap();
    run(async {
        for n in 0_u32.. {
            let path = format!("{writer}/{n:06}");
            let created = store.create(&path, Bytes::from(vec![n as u8; 1 << 20])).await.unwrap();
            assert_eq!(created, Created::New);
            println!("{path}");
            std::io::stdout().flush().unwrap();
        }
    });
}

fn check() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let mut acknowledged = Vec::new();
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["write-until-killed", &url, &format!("w{kill}")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let begun = Instant::now();
        // Killed somewhere in the write after the first few, a different place each time.
        acknowledged.push(lines.next().unwrap().unwrap());
        while begun.elapsed() < Duration::from_micros(700 * kill as u64) {
            acknowledged.push(lines.next().unwrap().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(lines.map(Result::unwrap));
        assert!(begun.elapsed() < DEADLINE, "writer {kill} took longer than {DEADLINE:?} to be killed");
    }
    let store = open(&url, None).unwrap();
    run(async {
        let listed = store.list("").await.unwrap();
        for path in &listed {
            let n: u32 = path.rsplit('/').next().unwrap().parse().unwrap();
            let bytes = store.get(path).await.unwrap().unwrap();
            assert!(bytes.len() == 1 << 20 && bytes.iter().all(|byte| *byte == n as u8), "{path} is torn");
        }
        for path in &acknowledged {
            assert!(listed.contains(path), "{path} was acknowledged and is gone");
        }
        assert!(acknowledged.len() >= KILLS, "only {} objects were written", acknowledged.len());
    });
}
