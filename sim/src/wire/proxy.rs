//! A TCP proxy that does to connections what the plan says, and writes it down before it does.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    plan::{Fault, Plan, Side, What},
    trace::{Happened, Port, Trace},
};

/// One of the two ways.
pub struct Proxy {
    side: Side,
    to: SocketAddr,
    faults: Vec<Fault>,
    trace: Trace,
}

impl Proxy {
    /// Takes connections until it is dropped. Returns its address, and what runs it.
    pub async fn start(
        plan: &Plan,
        side: Side,
        to: SocketAddr,
        trace: &Trace,
    ) -> (SocketAddr, impl Future<Output = ()> + use<>) {
        let faults = plan.faults.iter().copied().filter(|fault| fault.on == side).collect();
        let proxy = Arc::new(Self { side, to, faults, trace: trace.clone() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let run = async move {
            let mut connections = JoinSet::new();
            while let Ok((client, peer)) = listener.accept().await {
                let proxy = proxy.clone();
                // An error ends the connection, as it does in any proxy.
                connections.spawn(async move { drop(proxy.connection(client, peer.port()).await) });
                while connections.try_join_next().is_some() {}
            }
        };
        (address, run)
    }

    /// What is wrong now, and until when.
    fn fault(&self) -> Option<(Fault, Duration)> {
        let now = self.trace.now();
        let span = |fault: &Fault| (millis(fault.at), millis(fault.at + fault.lasts));
        let fault = self.faults.iter().find(|fault| (span(fault).0..span(fault).1).contains(&now))?;
        Some((*fault, span(fault).1))
    }

    /// When the next fault begins.
    fn next(&self) -> Option<u64> {
        let now = self.trace.now();
        self.faults.iter().map(|fault| fault.at).find(|at| millis(*at) > now)
    }

    fn touch(&self, port: Port, what: What, until: Option<Duration>) {
        self.trace.note(Happened::Touched { on: self.side, port, what, until });
    }

    async fn connection(&self, mut client: TcpStream, port: Port) -> io::Result<()> {
        let mut server = TcpStream::connect(self.to).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        // What each side may still send, and what was passed on of the answers of a fault that truncates them.
        let (mut client_sends, mut server_sends) = (true, true);
        let (mut passed, mut was_refused) = (0, false);
        // The client was told that nothing more will come.
        let mut is_half_closed = false;
        while client_sends || server_sends {
            let begins = self.next();
            tokio::select! {
                // An order of its own each time, so that neither side starves.
                read = client.read(&mut up), if client_sends => {
                    let bytes = &up[..read?];
                    if let Some((fault, until)) = self.fault() {
                        match fault.what {
                            What::Reset | What::Close => return self.end(client, port, fault.what),
                            What::CloseAfter401 if was_refused && !bytes.is_empty() => {
                                return self.end(client, port, fault.what);
                            }
                            What::Stall | What::Delay { .. } => self.wait(port, fault.what, until).await,
                            What::HalfClose | What::Truncate { .. } | What::CloseAfter401 => {}
                        }
                    }
                    client_sends = !bytes.is_empty();
                    if client_sends { server.write_all(bytes).await? } else { server.shutdown().await? }
                }
                read = server.read(&mut down), if server_sends => {
                    let mut bytes = &down[..read?];
                    let truncated;
                    server_sends = !bytes.is_empty();
                    if let Some((fault, until)) = self.fault() {
                        match fault.what {
                            What::Reset | What::Close => return self.end(client, port, fault.what),
                            What::HalfClose if !is_half_closed => {
                                is_half_closed = true;
                                self.touch(port, fault.what, None);
                                client.shutdown().await?;
                            }
                            What::Truncate { bytes: most, .. } if !bytes.is_empty() => {
                                truncated = bytes.len().min(most.saturating_sub(passed));
                                passed += truncated;
                                bytes = &bytes[..truncated];
                                if passed >= most {
                                    self.touch(port, fault.what, None);
                                    client.write_all(bytes).await?;
                                    return self.end(client, port, fault.what);
                                }
                            }
                            What::Stall | What::Delay { .. } => self.wait(port, fault.what, until).await,
                            What::HalfClose | What::Truncate { .. } | What::CloseAfter401 => {}
                        }
                    }
                    was_refused |= bytes.starts_with(b"HTTP/1.1 401");
                    if is_half_closed {
                        // What still comes is nobody's.
                    } else if server_sends {
                        client.write_all(bytes).await?;
                    } else {
                        client.shutdown().await?;
                    }
                }
                () = sleep_until(self.trace.moment(begins.unwrap_or(FAR))), if begins.is_some() => {
                    // Let it have begun.
                    sleep(millis(1)).await;
                    passed = 0;
                    match self.fault() {
                        Some((fault, _)) if matches!(fault.what, What::Reset | What::Close) => {
                            return self.end(client, port, fault.what);
                        }
                        Some((fault, _)) if fault.what == What::HalfClose && !is_half_closed => {
                            is_half_closed = true;
                            self.touch(port, fault.what, None);
                            client.shutdown().await?;
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    async fn wait(&self, port: Port, what: What, until: Duration) {
        let now = self.trace.now();
        let until = match what {
            What::Delay { by } => now + millis(by),
            _ => until,
        };
        self.touch(port, what, Some(until));
        sleep(until.saturating_sub(now)).await;
    }

    /// Closes the client's end in this way.
    fn end(&self, client: TcpStream, port: Port, what: What) -> io::Result<()> {
        self.touch(port, what, None);
        if matches!(what, What::Reset | What::Truncate { reset: true, .. }) {
            client.set_zero_linger()?;
        }
        Ok(())
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Later than any run lasts.
const FAR: u64 = 3_600_000;
