//! The part of a server that the load generator uses, on socketioxide: sessions are rooms, and each
//! ticks on an absolute grid.
//!
//! `bandsync-peer-socketioxide PORT TICK_MS`

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{Data, SocketRef, State};
use tokio::time::{MissedTickBehavior, interval_at};

/// Sessions by name: members by the id of their socket, and whether it plays.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<BTreeMap<String, Session>>>);

#[derive(Default)]
struct Session {
    members: BTreeMap<String, Value>,
    playing: bool,
}

#[derive(Clone)]
struct Service {
    sessions: Sessions,
    tick: Duration,
}

/// The fields of all events of the generator.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    session_id: String,
    display_name: String,
    role: String,
    message: String,
    timestamp: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tick<'a> {
    session_id: &'a str,
    position_ms: f64,
    tempo_bpm: u32,
    server_timestamp: u64,
    epoch: u64,
    version: u64,
}

impl Sessions {
    fn with<R>(&self, name: &str, act: impl FnOnce(&mut Session) -> R) -> R {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(sessions.entry(name.to_owned()).or_default())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().unwrap_or_else(|| "7400".into()).parse()?;
    let tick: u64 = arguments.next().unwrap_or_else(|| "16".into()).parse()?;
    let service = Service { sessions: Sessions::default(), tick: Duration::from_millis(tick) };
    let (layer, io) = SocketIo::builder()
        .transports([socketioxide::TransportType::Websocket])
        .ping_interval(Duration::from_millis(2_500))
        .ping_timeout(Duration::from_millis(5_000))
        .with_state(service)
        .build_layer();
    io.ns("/", connected);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        // Ticks must not wait for acknowledgements of earlier ones; without this they are only
        // late.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, axum::Router::new().layer(layer)).await?;
    Ok(())
}

async fn connected(socket: SocketRef) {
    socket.on("join_session", join);
    socket.on("play", play);
    socket.on("chat_message", chat);
    socket.on("latency_probe", probe);
    socket.on_disconnect(leave);
}

async fn join(socket: SocketRef, Data(said): Data<Said>, State(service): State<Service>, io: SocketIo) {
    let name = said.session_id;
    let id = socket.id.to_string();
    let member =
        json!({"socketId": id, "displayName": said.display_name, "role": said.role, "joinedAt": unix_ms(),
               "connected": true});
    socket.extensions.insert(name.clone());
    socket.join(name.clone());
    let (members, playing) = service.sessions.with(&name, |session| {
        session.members.insert(id, member.clone());
        (session.members.values().cloned().collect::<Vec<_>>(), session.playing)
    });
    let count = members.len();
    let snapshot = json!({"sessionId": name, "members": members, "tempoBpm": 120, "position": 0,
                          "isPlaying": playing, "epoch": 1, "version": 1});
    // A client may be gone, here and below.
    let _ = socket.emit("snapshot", &snapshot);
    let news = json!({"member": member, "memberCount": count});
    let _ = io.to(name.clone()).emit("user_joined", &news).await;
    let stats = json!({"sessionId": name, "memberCount": count});
    let _ = io.to(name).emit("room_stats", &stats).await;
}

async fn play(Data(said): Data<Said>, State(service): State<Service>, io: SocketIo) {
    let name = said.session_id;
    if service.sessions.with(&name, |session| std::mem::replace(&mut session.playing, true)) {
        return;
    }
    let news = json!({"sessionId": name, "tempoBpm": 120, "position": 0, "serverTimestamp": unix_ms()});
    let _ = io.to(name.clone()).emit("play", &news).await;
    tokio::spawn(tick(name, service, io));
}

/// Ticks on an absolute grid until no member is left.
async fn tick(name: String, service: Service, io: SocketIo) {
    let started = Instant::now();
    let mut grid = interval_at(tokio::time::Instant::from_std(started) + service.tick, service.tick);
    grid.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while service.sessions.with(&name, |session| !session.members.is_empty()) {
        grid.tick().await;
        let tick = Tick {
            session_id: &name,
            position_ms: started.elapsed().as_secs_f64() * 1_000.0,
            tempo_bpm: 120,
            server_timestamp: unix_ms(),
            epoch: 1_795_374_685_368,
            version: 12,
        };
        let _ = io.to(name.clone()).emit("scroll_tick", &tick).await;
    }
}

async fn chat(socket: SocketRef, Data(said): Data<Said>, io: SocketIo) {
    let news = json!({"sessionId": said.session_id, "socketId": socket.id, "message": said.message,
                      "timestamp": unix_ms()});
    let _ = io.to(said.session_id).emit("chat_message", &news).await;
}

async fn probe(socket: SocketRef, Data(said): Data<Said>) {
    let answer = json!({"clientTimestamp": said.timestamp, "serverTimestamp": unix_ms()});
    let _ = socket.emit("latency_response", &answer);
}

async fn leave(socket: SocketRef, State(service): State<Service>, io: SocketIo) {
    let Some(name) = socket.extensions.get::<String>() else { return };
    let count = service.sessions.with(&name, |session| {
        session.members.remove(&socket.id.to_string());
        session.members.len()
    });
    let news = json!({"socketId": socket.id.to_string(), "memberCount": count});
    let _ = io.to(name).emit("user_left", &news).await;
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
