// The service of the load generator on uWebSockets: sessions are topics, and each ticks by a timer of its own.
//
// It speaks just enough Socket.IO for that. What it leaves out and a real server has: polling, namespaces,
// acknowledgements, recovery, binary data, JSON in any other form than the generator writes, roles and rights, limits.

#include <App.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace {

constexpr int PING_MS = 2500;

struct Member;
using Socket = uWS::WebSocket<false, true, Member>;

struct Session {
  std::string name;
  /** Members by their socket's id, as JSON. */
  std::map<std::string, std::string, std::less<>> members;
  us_timer_t *ticks = nullptr;
  us_timer_t *pings = nullptr;
  std::chrono::steady_clock::time_point started;
};

struct Member {
  std::string id;
  Session *session = nullptr;
};

uWS::App *app;
int tick_ms;
std::map<std::string, std::unique_ptr<Session>, std::less<>> sessions;

long long unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

/** The value of a field that holds text or a number, as the generator writes it. */
std::string_view field(std::string_view text, std::string_view name) {
  std::string sought = "\"" + std::string(name) + "\":";
  size_t at = text.find(sought);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + sought.size());
  if (text.starts_with('"')) {
    text.remove_prefix(1);
    return text.substr(0, text.find('"'));
  }
  return text.substr(0, text.find_first_of(",}"));
}

void tell(const Session &session, std::string_view text) {
  app->publish(session.name, text, uWS::OpCode::TEXT, false);
}

/** A timer on the loop that calls `act` with the session at a fixed pace. */
us_timer_t *timer(Session &session, int every_ms, void (*act)(us_timer_t *)) {
  auto *loop = reinterpret_cast<us_loop_t *>(uWS::Loop::get());
  us_timer_t *made = us_create_timer(loop, 0, sizeof(Session *));
  *static_cast<Session **>(us_timer_ext(made)) = &session;
  us_timer_set(made, act, every_ms, every_ms);
  return made;
}

Session &of(us_timer_t *timer) { return **static_cast<Session **>(us_timer_ext(timer)); }

void ping(us_timer_t *timer) { tell(of(timer), "2"); }

void tick(us_timer_t *timer) {
  const Session &session = of(timer);
  std::chrono::duration<double, std::milli> position = std::chrono::steady_clock::now() - session.started;
  char text[256];
  int length = std::snprintf(text, sizeof text,
                             "42[\"scroll_tick\",{\"sessionId\":\"%s\",\"positionMs\":%.3f,\"tempoBpm\":120,"
                             "\"serverTimestamp\":%lld,\"epoch\":1795374685368,\"version\":12}]",
                             session.name.c_str(), position.count(), unix_ms());
  tell(session, {text, static_cast<size_t>(length)});
}

void join(Socket *socket, std::string_view text) {
  std::string name(field(text, "sessionId"));
  auto &place = sessions[name];
  if (!place) {
    place = std::make_unique<Session>();
    place->name = name;
    place->pings = timer(*place, PING_MS, ping);
  }
  Session &session = *place;
  Member &member = *socket->getUserData();
  std::string about = "{\"socketId\":\"" + member.id + "\",\"displayName\":\"" + std::string(field(text, "displayName")) +
                      "\",\"role\":\"" + std::string(field(text, "role")) +
                      "\",\"joinedAt\":" + std::to_string(unix_ms()) + ",\"connected\":true}";
  member.session = &session;
  session.members[member.id] = about;
  std::string all;
  for (const auto &[id, one] : session.members) all += (all.empty() ? "" : ",") + one;
  std::string count = std::to_string(session.members.size());
  socket->subscribe(name);
  socket->send("42[\"snapshot\",{\"sessionId\":\"" + name + "\",\"members\":[" + all +
                   "],\"tempoBpm\":120,\"position\":0,\"isPlaying\":" + (session.ticks ? "true" : "false") +
                   ",\"epoch\":1,\"version\":1}]",
               uWS::OpCode::TEXT);
  tell(session, "42[\"user_joined\",{\"member\":" + about + ",\"memberCount\":" + count + "}]");
  tell(session, "42[\"room_stats\",{\"sessionId\":\"" + name + "\",\"memberCount\":" + count + "}]");
}

void play(Session &session) {
  if (session.ticks) return;
  session.started = std::chrono::steady_clock::now();
  session.ticks = timer(session, tick_ms, tick);
  tell(session, "42[\"play\",{\"sessionId\":\"" + session.name +
                    "\",\"tempoBpm\":120,\"position\":0,\"serverTimestamp\":" + std::to_string(unix_ms()) + "}]");
}

void leave(Member &member) {
  if (!member.session) return;
  Session &session = *member.session;
  session.members.erase(member.id);
  std::string count = std::to_string(session.members.size());
  tell(session, "42[\"user_left\",{\"socketId\":\"" + member.id + "\",\"memberCount\":" + count + "}]");
  if (!session.members.empty()) return;
  if (session.ticks) us_timer_close(session.ticks);
  us_timer_close(session.pings);
  sessions.erase(session.name);
}

void hear(Socket *socket, std::string_view text) {
  Member &member = *socket->getUserData();
  if (text == "40") {
    socket->send("40{\"sid\":\"" + member.id + "\"}", uWS::OpCode::TEXT);
    return;
  }
  if (!text.starts_with("42[\"")) return;
  std::string_view event = text.substr(4, text.find('"', 4) - 4);
  if (event == "join_session") return join(socket, text);
  if (event == "latency_probe") {
    socket->send("42[\"latency_response\",{\"clientTimestamp\":" + std::string(field(text, "timestamp")) +
                     ",\"serverTimestamp\":" + std::to_string(unix_ms()) + "}]",
                 uWS::OpCode::TEXT);
    return;
  }
  if (!member.session) return;
  if (event == "play") return play(*member.session);
  if (event == "chat_message") {
    tell(*member.session, "42[\"chat_message\",{\"sessionId\":\"" + member.session->name + "\",\"socketId\":\"" +
                              member.id + "\",\"message\":\"" + std::string(field(text, "message")) +
                              "\",\"timestamp\":" + std::to_string(unix_ms()) + "}]");
  }
}

}  // namespace

extern "C" void serve(int port, int every_ms) {
  tick_ms = every_ms;
  unsigned long long last_id = 0;
  uWS::App server;
  app = &server;
  server
      .ws<Member>("/socket.io/",
                  {
                      .compression = uWS::DISABLED,
                      // Members answer pings; one that has been silent for so many seconds is taken for gone.
                      .idleTimeout = 8,
                      .sendPingsAutomatically = false,
                      .open =
                          [&last_id](auto *socket) {
                            char id[24];
                            std::snprintf(id, sizeof id, "%020llu", ++last_id);
                            socket->getUserData()->id = id;
                            socket->send("0{\"sid\":\"" + std::string(id) +
                                             "\",\"upgrades\":[],\"pingInterval\":2500,\"pingTimeout\":5000,"
                                             "\"maxPayload\":1000000}",
                                         uWS::OpCode::TEXT);
                          },
                      .message = [](auto *socket, std::string_view text, uWS::OpCode) { hear(socket, text); },
                      .close = [](auto *socket, int, std::string_view) { leave(*socket->getUserData()); },
                  })
      .listen("127.0.0.1", port, [](auto *) {})
      .run();
}
