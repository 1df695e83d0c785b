//! Acts over TCP on the loopback interface. Both ends are ours, in one thread: what waits in a backlog waits for nobody.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use nix::sys::socket::{setsockopt, sockopt};

use super::{BATCH, Timer};

/// A connect has its socket with it.
pub(super) fn connect(timer: &mut Timer) -> io::Result<()> {
    let (listener, address) = listen()?;
    loop {
        let mut clients = Vec::new();
        let make = || {
            clients.push(TcpStream::connect(address)?);
            Ok(())
        };
        let made = timer.batch(BATCH, make)?;
        if made == 0 {
            return Ok(());
        }
        let accepted = (0..made).map(|_| listener.accept()).collect::<io::Result<Vec<_>>>()?;
        let accepted = accepted.into_iter().map(|(server, _)| server);
        end(clients, accepted)?;
    }
}

pub(super) fn accept(timer: &mut Timer) -> io::Result<()> {
    let (listener, address) = listen()?;
    let mut left = timer.units();
    while left > 0 {
        let made = left.min(BATCH);
        let clients = (0..made).map(|_| TcpStream::connect(address)).collect::<io::Result<Vec<_>>>()?;
        let mut accepted = Vec::new();
        left -= timer.batch(made, || {
            accepted.push(listener.accept()?.0);
            Ok(())
        })?;
        end(clients, accepted)?;
    }
    Ok(())
}

fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Ends connections at once: one that lingers in TIME_WAIT keeps its port for a minute, and there are not so many.
fn end(clients: Vec<TcpStream>, servers: impl IntoIterator<Item = TcpStream>) -> io::Result<()> {
    for client in clients {
        setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    }
    servers.into_iter().for_each(drop);
    Ok(())
}
