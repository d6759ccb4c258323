//! Tests the proxy over real sockets: bytes arrive whole, in order and not too early, and both
//! kinds of end are passed on. No test expects the machine to be quick.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bandsync_perf::network::{Profile, Way};
use bandsync_perf::proxy::{Door, Proxy};

/// Time limit of every read. Guessed: anything that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Accepts connections, and runs `serve` on each.
fn server(serve: fn(TcpStream) -> io::Result<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

/// Sends everything back until the client ends.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = [0; 10_000];
    loop {
        match stream.read(&mut bytes)? {
            0 => return stream.shutdown(Shutdown::Write),
            length => stream.write_all(&bytes[..length])?,
        }
    }
}

fn proxy(server: SocketAddr, profiles: &[Profile]) -> io::Result<Proxy> {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let doors: Vec<Door> = profiles.iter().map(|&profile| Door { listen, profile }).collect();
    Proxy::start(server, &doors, 1)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[test]
fn bytes_arrive_whole_and_in_order_through_every_network() -> io::Result<()> {
    let proxy = proxy(server(echo)?, &Profile::ALL)?;
    let mut clients = Vec::new();
    for &address in proxy.addresses() {
        clients.push(thread::spawn(move || -> io::Result<()> {
            let mut stream = connect(address)?;
            for round in 0..20_u32 {
                let sent: Vec<u8> =
                    (0..round * 97).map(|n| (n * 31 + round) as u8).chain([0]).collect();
                // In two pieces, so that chunks may be delayed apart.
                let (first, second) = sent.split_at(sent.len() / 2);
                stream.write_all(first)?;
                stream.write_all(second)?;
                let mut received = vec![0; sent.len()];
                stream.read_exact(&mut received)?;
                assert!(received == sent, "round {round} differs");
            }
            stream.shutdown(Shutdown::Write)?;
            assert_eq!(stream.read(&mut [0])?, 0, "the end is passed on, both ways");
            Ok(())
        }));
    }
    for client in clients {
        client.join().expect("the bytes are as sent")?;
    }
    let journal = proxy.stop()?;
    assert_eq!((journal.not_listed, journal.not_stamped), (0, 0));
    for passage in &journal.passages {
        assert!(passage.real >= passage.wanted, "{passage:?} left too early");
    }
    for connection in 0..Profile::ALL.len() as u32 {
        for way in [Way::Up, Way::Down] {
            let of_one = || {
                let all = journal.passages.iter();
                all.filter(move |it| it.connection == connection && it.way == way)
            };
            let bytes: usize = of_one().map(|passage| passage.bytes).sum();
            assert_eq!(bytes, (0..20).map(|round| round * 97 + 1).sum::<usize>());
            assert_eq!(
                of_one().next_back().map(|passage| passage.bytes),
                Some(0),
                "the end is last"
            );
            assert!(of_one().is_sorted_by_key(|passage| passage.arrived + passage.wanted));
        }
    }
    Ok(())
}

#[test]
fn more_bytes_than_a_lane_holds_arrive_at_a_reader_that_begins_late() -> io::Result<()> {
    let proxy = proxy(server(echo)?, &[Profile::Wired])?;
    let mut stream = connect(proxy.addresses()[0])?;
    let mut sender = stream.try_clone()?;
    let sent: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let received = thread::scope(|scope| {
        let all = &sent;
        let sending = scope.spawn(move || {
            sender.write_all(all)?;
            sender.shutdown(Shutdown::Write)
        });
        // Until all buffers on the way are full.
        thread::sleep(Duration::from_millis(100));
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        sending.join().expect("it does not panic")?;
        io::Result::Ok(received)
    })?;
    assert!(received == sent, "{} of {} bytes, or others", received.len(), sent.len());
    Ok(())
}

#[test]
fn a_side_that_has_ended_still_receives() -> io::Result<()> {
    let slow = |mut stream: TcpStream| {
        let mut question = Vec::new();
        stream.read_to_end(&mut question)?;
        stream.write_all(&question)
    };
    let proxy = proxy(server(slow)?, &[Profile::Good])?;
    let mut stream = connect(proxy.addresses()[0])?;
    stream.write_all(b"all of it")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert_eq!(answer, "all of it");
    Ok(())
}

#[test]
fn a_reset_on_one_side_is_an_error_on_the_other() -> io::Result<()> {
    let reset = |stream: TcpStream| {
        (&stream).read_exact(&mut [0])?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    };
    let proxy = proxy(server(reset)?, &[Profile::Wired])?;
    let mut stream = connect(proxy.addresses()[0])?;
    stream.write_all(b"x")?;
    let error = stream.read(&mut [0]).expect_err("the server has reset the connection");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    // The proxy serves others.
    connect(proxy.addresses()[0])?.write_all(b"x")?;
    proxy.stop()?;
    Ok(())
}

#[test]
fn without_a_server_a_connection_ends() -> io::Result<()> {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let proxy = proxy(nobody, &[Profile::Wired])?;
    let mut stream = connect(proxy.addresses()[0])?;
    let ended = stream.read(&mut [0]);
    assert!(
        matches!(ended, Ok(0))
            || ended.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    );
    Ok(())
}

#[test]
fn the_command_forwards_until_its_input_ends_and_reports_each_chunk() -> io::Result<()> {
    let address = server(echo)?;
    let path = std::env::temp_dir().join(format!("bandsync-proxy-{}.csv", std::process::id()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_perf"))
        .args(["proxy", "--to", &address.to_string(), "--profile", "wired,good", "--journal"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    out.read_line(&mut line)?;
    let address = line.strip_prefix("listening on ").and_then(|rest| rest.split(": ").next());
    let address = address.and_then(|text| text.parse().ok()).expect("it names its address");
    let mut stream = connect(address)?;
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])?;
    drop(child.stdin.take());
    let mut text = String::new();
    out.read_to_string(&mut text)?;
    assert!(child.wait()?.success(), "{text}");
    assert!(text.contains("2 chunks left late, µs: p50 "), "{text}");
    let journal = std::fs::read_to_string(&path)?;
    std::fs::remove_file(&path)?;
    let ways: Vec<&str> = journal.lines().filter_map(|line| line.split(',').nth(1)).collect();
    assert_eq!(ways, ["way", "up", "down"]);
    Ok(())
}
