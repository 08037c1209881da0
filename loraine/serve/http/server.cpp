// See server.h: sockets that listen, and the list of connections.
#include "loraine/serve/http/server.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/serve/http/connection.h"

namespace loraine {
namespace {

constexpr int kSendBuffer = 128 << 10;           // of the kernel, so that a slow reader is noticed
constexpr std::chrono::milliseconds kTick{250};  // how exact timeouts are

// As many open files as the system lets us have: every connection is one.
void raise_open_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

struct HttpServer::State : net::ConnectionHost {
  std::function<void()> on_tick;
  net::asio::steady_timer ticker{io};
  std::optional<net::asio::executor_work_guard<net::asio::io_context::executor_type>> open{io.get_executor()};
  std::vector<net::asio::ip::tcp::acceptor> tcp;
  std::vector<net::asio::local::stream_protocol::acceptor> unix_sockets;
  std::vector<std::string> unix_paths;
  std::set<std::shared_ptr<net::Connection>> all;
  std::atomic<int> count{0};

  net::asio::awaitable<void> accept_tcp(size_t which);
  net::asio::awaitable<void> accept_unix(size_t which);
  net::asio::awaitable<void> tick();
  void start(net::Socket socket, bool local);
  void begin_finish();
  void end_if_idle() {
    if (finishing && all.empty()) io.stop();
  }
};

void HttpServer::State::start(net::Socket socket, bool local) {
  net::error_code ignored;
  socket.set_option(net::asio::socket_base::send_buffer_size(kSendBuffer), ignored);
  const auto connection = std::make_shared<net::Connection>(*this, std::move(socket), local);
  const bool full = count >= limits.max_connections;
  all.insert(connection);
  ++count;
  net::asio::co_spawn(io, connection->serve(full), [this, connection](const std::exception_ptr&) {
    all.erase(connection);
    --count;
    end_if_idle();
  });
}

net::asio::awaitable<void> HttpServer::State::accept_tcp(size_t which) {
  net::asio::ip::tcp::acceptor& acceptor = tcp[which];
  while (acceptor.is_open()) {
    net::error_code error, ignored;
    net::asio::ip::tcp::socket socket = co_await acceptor.async_accept(net::into(error));
    if (error == net::asio::error::operation_aborted) co_return;
    if (error) {  // no descriptor left, or a client that is gone already
      net::asio::steady_timer pause(io, std::chrono::milliseconds(50));
      co_await pause.async_wait(net::into(ignored));
      continue;
    }
    socket.set_option(net::asio::ip::tcp::no_delay(true), ignored);
    const auto from = socket.remote_endpoint(ignored).address();
    const bool mapped = from.is_v6() && from.to_v6().is_v4_mapped();
    const bool local = mapped ? net::asio::ip::make_address_v4(net::asio::ip::v4_mapped, from.to_v6()).is_loopback() : from.is_loopback();
    start(net::Socket(std::move(socket)), local);
  }
}

net::asio::awaitable<void> HttpServer::State::accept_unix(size_t which) {
  net::asio::local::stream_protocol::acceptor& acceptor = unix_sockets[which];
  while (acceptor.is_open()) {
    net::error_code error, ignored;
    net::asio::local::stream_protocol::socket socket = co_await acceptor.async_accept(net::into(error));
    if (error == net::asio::error::operation_aborted) co_return;
    if (error) {
      net::asio::steady_timer pause(io, std::chrono::milliseconds(50));
      co_await pause.async_wait(net::into(ignored));
      continue;
    }
    start(net::Socket(std::move(socket)), true);
  }
}

net::asio::awaitable<void> HttpServer::State::tick() {
  for (;;) {
    net::error_code error;
    ticker.expires_after(kTick);
    co_await ticker.async_wait(net::into(error));
    const auto now = net::Clock::now();
    const std::vector<std::shared_ptr<net::Connection>> each(all.begin(), all.end());
    for (const auto& connection : each) connection->tick(now);
    if (on_tick) on_tick();
  }
}

void HttpServer::State::begin_finish() {
  finishing = true;
  net::error_code ignored;
  for (auto& acceptor : tcp) acceptor.close(ignored);
  for (auto& acceptor : unix_sockets) acceptor.close(ignored);
  const std::vector<std::shared_ptr<net::Connection>> each(all.begin(), all.end());
  for (const auto& connection : each) connection->end_if_waiting();
  end_if_idle();
}

HttpServer::HttpServer(HttpLimits limits, HttpHooks hooks) : state_(std::make_unique<State>()) {
  state_->limits = limits;
  state_->hooks = std::move(hooks);
  raise_open_files();
}

HttpServer::~HttpServer() {
  for (const std::string& path : state_->unix_paths) ::unlink(path.c_str());
}

int HttpServer::listen_tcp(const std::string& host, int port) {
  const auto failed = [&](const std::string& why, const char* hint) {
    return Error(ErrorKind::io, fmt::format("cannot listen on {} port {}: {}", host, port, why), hint);
  };
  net::error_code error;
  net::asio::ip::tcp::resolver resolver(state_->io);
  const auto found = resolver.resolve(host, std::to_string(port), net::asio::ip::resolver_base::passive, error);
  if (error || found.empty()) throw failed(error.message(), "give an address of this machine: host 127.0.0.1, or 0.0.0.0 for all of them");
  const net::asio::ip::tcp::endpoint endpoint = found.begin()->endpoint();
  net::asio::ip::tcp::acceptor acceptor(state_->io);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(net::asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(1024, error);
  if (error) throw failed(error.message(), "choose another with port, or port 0 for any that is free");
  const int taken = acceptor.local_endpoint().port();
  state_->tcp.push_back(std::move(acceptor));
  return taken;
}

void HttpServer::listen_unix(const std::string& path) {
  const auto failed = [&](const std::string& why, const char* hint) {
    return Error(ErrorKind::io, fmt::format("cannot listen on unix_socket {}: {}", path, why), hint);
  };
  if (path.size() >= sizeof(sockaddr_un::sun_path)) throw failed("the path is too long for a socket", "give a shorter one");
  struct stat there {};
  if (::lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) throw failed("there is something else", "give the path of a socket, or of nothing");
    net::error_code refused;
    net::asio::local::stream_protocol::socket probe(state_->io);
    probe.connect(net::asio::local::stream_protocol::endpoint(path), refused);
    if (!refused) throw failed("another program answers there", "end it, or give another path");
    ::unlink(path.c_str());
  }
  net::error_code error;
  net::asio::local::stream_protocol::acceptor acceptor(state_->io);
  acceptor.open(net::asio::local::stream_protocol(), error);
  const mode_t before = ::umask(0177);  // never open to others, not even for a moment
  if (!error) acceptor.bind(net::asio::local::stream_protocol::endpoint(path), error);
  ::umask(before);
  if (!error) acceptor.listen(1024, error);
  if (error) throw failed(error.message(), "give a path in a folder that you may write to");
  state_->unix_paths.push_back(path);
  state_->unix_sockets.push_back(std::move(acceptor));
}

void HttpServer::run() {
  for (size_t i = 0; i < state_->tcp.size(); ++i) net::asio::co_spawn(state_->io, state_->accept_tcp(i), net::asio::detached);
  for (size_t i = 0; i < state_->unix_sockets.size(); ++i) net::asio::co_spawn(state_->io, state_->accept_unix(i), net::asio::detached);
  net::asio::co_spawn(state_->io, state_->tick(), net::asio::detached);
  state_->io.run();
}

void HttpServer::when_ticking(std::function<void()> call) { state_->on_tick = std::move(call); }
void HttpServer::post(std::function<void()> call) { net::asio::post(state_->io, std::move(call)); }
void HttpServer::finish() {
  net::asio::post(state_->io, [this] { state_->begin_finish(); });
}
void HttpServer::stop() { state_->io.stop(); }
int HttpServer::connections() const { return state_->count; }

}  // namespace loraine
