//! A bad network: a relay on loopback between a client and a server, that passes bytes on, late, or answers
//! requests itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::LabError;

/// What a relay does with what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Weather {
    /// Passes everything on, after the relay's delay.
    Fair = 0,
    /// Answers each HTTP request with 503, as an object store that is asked too much.
    Unavailable = 1,
    /// Passes requests on, and ends the connection instead of passing the answer on.
    LosesAnswers = 2,
}

#[derive(Debug, Default)]
struct Control {
    weather: AtomicU8,
    delay_ms: AtomicU64,
    over: AtomicBool,
}

/// A relay to one server. Ends with the value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    control: Arc<Control>,
}

impl Relay {
    /// A relay to port `target` of 127.0.0.1, on a port of its own.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn start(target: u16) -> Result<Self, LabError> {
        let failed = LabError::file("listening for a relay on", "127.0.0.1");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(LabError::file("listening for a relay on", "127.0.0.1"))?;
        let control = Arc::new(Control::default());
        let asked = Arc::clone(&control);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if asked.over.load(Ordering::Relaxed) {
                    return;
                }
                let control = Arc::clone(&asked);
                std::thread::spawn(move || serve(client, target, &control));
            }
        });
        Ok(Self { address, control })
    }

    /// Where clients find it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on each piece of data that comes from the server is this late.
    pub fn delay(&self, delay: Duration) {
        self.control.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// What is done with requests from now on, on connections that are open too.
    pub fn set(&self, weather: Weather) {
        self.control.weather.store(weather as u8, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.control.over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        TcpStream::connect(self.address).ok();
    }
}

/// Serves one connection until either side ends it.
fn serve(mut client: TcpStream, target: u16, control: &Arc<Control>) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
    let (Ok(mut answers), Ok(mut reader)) = (client.try_clone(), server.try_clone()) else { return };
    let back = Arc::clone(control);
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut bytes) {
            std::thread::sleep(Duration::from_millis(back.delay_ms.load(Ordering::Relaxed)));
            let loses = back.weather.load(Ordering::Relaxed) == Weather::LosesAnswers as u8;
            if loses || answers.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        answers.shutdown(Shutdown::Both).ok();
    });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        if control.weather.load(Ordering::Relaxed) == Weather::Unavailable as u8 {
            let body =
                "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please slow down.</Message></Error>";
            let length = body.len();
            let head = format!("HTTP/1.1 503 Slow Down\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            client.write_all(head.as_bytes()).and_then(|()| client.write_all(body.as_bytes())).ok();
            break;
        }
        if server.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
}
