// See server.h. A connection is one coroutine: a request is read, its answer written, the next one read. While an answer is made the
// socket is watched for its end; the same read takes the first bytes of the next request.
#include "loraine/serve/http/server.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstring>
#include <mutex>
#include <set>

#include "loraine/core/error.h"

namespace loraine {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Socket = asio::generic::stream_protocol::socket;
using Parser = http::request_parser<http::string_body>;

constexpr size_t kDrained = 64u << 10;               // buffered bytes below which an answer goes on
constexpr int kSendBuffer = 128 << 10;               // of the kernel, so that a slow reader is noticed
constexpr std::chrono::milliseconds kTick{250};      // how exact timeouts are
constexpr std::chrono::milliseconds kLinger{2'000};  // for a refused body to arrive, so that its answer is not lost

asio::redirect_error_t<asio::use_awaitable_t<>> into(error_code& error) { return asio::redirect_error(asio::use_awaitable, error); }

std::string head_text(const HttpResponse& response, bool close, bool chunked) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\n", response.status, http_reason(response.status));
  if (response.status != 204) {
    out += fmt::format("content-type: {}\r\n", response.content_type);
    if (chunked) out += "transfer-encoding: chunked\r\n";
    else out += fmt::format("content-length: {}\r\n", response.body.size());
  }
  for (const auto& [name, value] : response.headers) out += fmt::format("{}: {}\r\n", name, value);
  if (close) out += "connection: close\r\n";
  return out + "\r\n";
}

void append_chunk(std::string& out, std::string_view text) {
  if (text.empty()) return;  // an empty chunk would be the end
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", text.size());
  out.append(text).append("\r\n");
}

// The head of a request; gives what is wrong with it, or nothing. HEAD comes out as it is.
std::string read_head(const Parser& parser, ServerRequest& request) {
  const auto& head = parser.get();
  request.method.assign(head.method_string().data(), head.method_string().size());
  for (const auto& field : head) {
    std::string name(field.name_string().data(), field.name_string().size());
    for (char& c : name)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    request.headers.emplace_back(std::move(name), std::string(field.value().data(), field.value().size()));
  }
  const std::string_view target(head.target().data(), head.target().size());
  const size_t question = target.find('?');
  if (question != target.npos) request.query = target.substr(question + 1);
  if (target.empty() || (target[0] != '/' && target != "*")) return "the target of the request is no path";
  if (!percent_decode(target.substr(0, question), request.path)) return "the path holds a broken % or a control character";
  if (request.header("host").empty()) return "the header Host is missing";
  const std::string_view coding = request.header("transfer-encoding");
  if (!coding.empty() && !beast::iequals(beast::string_view(coding.data(), coding.size()), "chunked"))
    return "of Transfer-Encoding only chunked is known";
  return {};
}

class Connection;

class Reply : public HttpReply {
 public:
  Reply(std::weak_ptr<Connection> connection, bool head_only, bool close)
      : connection_(std::move(connection)), head_only_(head_only), close_(close) {}
  void send(HttpResponse response) override;
  void begin(HttpResponse head) override;
  void write(std::string_view text) override;
  void end(bool close) override;
  bool gone() const override { return gone_; }
  size_t buffered() const override { return buffered_; }
  void when_gone(std::function<void()> call) override {
    const std::lock_guard lock(mutex_);
    when_gone_ = std::move(call);
  }
  void when_drained(std::function<void()> call) override {
    const std::lock_guard lock(mutex_);
    when_drained_ = std::move(call);
  }

  // For the connection, in the server's thread.
  std::string take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(out_, {});
  }
  bool finished() const {
    const std::lock_guard lock(mutex_);
    return ended_ && out_.empty();
  }
  bool closes() const { return close_; }
  void was_written(size_t bytes);
  void ping_after(Clock::duration silence);
  void client_went() {
    std::function<void()> call;
    {
      const std::lock_guard lock(mutex_);
      if (ended_ || gone_.exchange(true)) return;
      call = std::move(when_gone_);
    }
    if (call) call();
  }

 private:
  void put(std::string_view bytes) {  // with the lock held
    out_ += bytes;
    buffered_ += bytes.size();
    last_ = Clock::now();
  }
  void wake();
  std::weak_ptr<Connection> connection_;
  const bool head_only_;
  mutable std::mutex mutex_;
  std::string out_, ping_;
  bool begun_ = false, ended_ = false, streams_ = false;
  std::atomic<bool> close_, gone_{false};
  std::atomic<size_t> buffered_{0};
  Clock::time_point last_ = Clock::now();
  std::function<void()> when_gone_, when_drained_;
};

}  // namespace

struct HttpServer::State {
  HttpLimits limits;
  HttpHooks hooks;
  std::function<void()> on_tick;
  asio::io_context io{1};
  asio::steady_timer ticker{io};
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> open{io.get_executor()};
  std::vector<asio::ip::tcp::acceptor> tcp;
  std::vector<asio::local::stream_protocol::acceptor> unix_sockets;
  std::vector<std::string> unix_paths;
  std::set<std::shared_ptr<Connection>> all;
  std::atomic<int> count{0};
  bool finishing = false;

  asio::awaitable<void> accept_tcp(size_t which);
  asio::awaitable<void> accept_unix(size_t which);
  asio::awaitable<void> tick();
  void start(Socket socket, bool local);
  void begin_finish();
  void end_if_idle() {
    if (finishing && all.empty()) io.stop();
  }
};

namespace {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(HttpServer::State& server, Socket socket, bool local)
      : server_(server), socket_(std::move(socket)), wake_(server.io, Clock::time_point::max()), local_(local) {}

  asio::awaitable<void> serve(bool full) {
    try {
      if (full) {
        HttpResponse busy = server_.hooks.on_bad(503, "too many connections");
        busy.headers.emplace_back("retry-after", "1");
        co_await refuse(std::move(busy));
      } else {
        for (bool more = true; more;) more = co_await one_request();
      }
    } catch (const std::exception&) {}  // of this connection alone: no memory for its request, a socket that is no more
    close();
  }

  void wake() { wake_.cancel(); }
  void close() {
    error_code ignored;
    socket_.close(ignored);
    if (reply_) reply_->client_went();
  }
  void tick(Clock::time_point now) {
    if (now >= deadline_) {
      deadline_ = Clock::time_point::max();
      timed_out_ = true;
      error_code ignored;
      socket_.cancel(ignored);
      wake();
    } else if (reply_) {
      reply_->ping_after(server_.limits.ping);
    }
  }
  // While no request is read or answered: ends, for the server does.
  void end_if_waiting() {
    if (waiting_) {
      ending_ = true;
      error_code ignored;
      socket_.cancel(ignored);
      wake();
    }
  }
  asio::io_context& io() { return server_.io; }
  // wake() once more than once, from any thread.
  void wake_soon() {
    if (wake_posted_.exchange(true)) return;
    asio::post(server_.io, [self = shared_from_this()] {
      self->wake_posted_ = false;
      self->wake();
    });
  }

 private:
  void within(std::chrono::milliseconds time) {
    deadline_ = Clock::now() + time;
    timed_out_ = false;
  }
  void without_limit() { deadline_ = Clock::time_point::max(); }

  asio::awaitable<void> sleep() {
    error_code ignored;
    wake_.expires_at(Clock::time_point::max());
    co_await wake_.async_wait(into(ignored));
  }

  // Reads into the buffer in the background; the end of the client shows here.
  void watch() {
    if (watching_ || eof_) return;
    watching_ = true;
    socket_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](const error_code& error, size_t bytes) {
      self->watching_ = false;
      self->buffer_.commit(bytes);
      if (error && !(self->timed_out_ || self->ending_)) {
        self->eof_ = true;
        if (self->reply_) self->reply_->client_went();
      }
      self->wake();
    });
  }

  // Whether another request may follow.
  asio::awaitable<bool> one_request() {
    if (server_.finishing) co_return false;
    within(server_.limits.idle);
    waiting_ = true;
    if (buffer_.size() == 0) watch();
    while (watching_ && !timed_out_ && !ending_) co_await sleep();
    waiting_ = false;
    if (eof_ || timed_out_ || ending_ || server_.finishing) co_return false;
    Parser parser;
    parser.header_limit(static_cast<uint32_t>(server_.limits.max_head));
    parser.body_limit(boost::none);
    within(server_.limits.head);
    error_code error;
    co_await http::async_read_header(socket_, buffer_, parser, into(error));
    ServerRequest request;
    bool silent = false;
    std::optional<HttpResponse> refusal = refused_by_head(parser, error, request, silent);
    if (silent) co_return false;
    const bool has_body = parser.is_header_done() && (parser.chunked() || parser.content_length().value_or(0) > 0);
    const bool ends = !parser.get().keep_alive();
    if (refusal && !refusal->close && !has_body && !ends) {
      const bool works = co_await answer_with(std::move(*refusal));
      co_return works;
    }
    if (!refusal && has_body) {
      parser.body_limit(server_.limits.max_body);
      if (!request.header("expect").empty()) co_await write_all("HTTP/1.1 100 Continue\r\n\r\n", nullptr);
      while (!error && !parser.is_done()) {
        within(server_.limits.body);
        co_await http::async_read_some(socket_, buffer_, parser, into(error));
      }
      refusal = refused_by_body(error, silent);
      if (silent) co_return false;
      body_ = std::move(parser.get().body());
    }
    if (refusal) {
      co_await refuse(std::move(*refusal));
      co_return false;
    }
    const bool more = co_await answer(std::move(request), ends);
    co_return more;
  }

  // What is said to a head that is not taken, with close where what follows it cannot be told. silent: nothing is said, the connection
  // ends. (No co_await stands in an expression here, nor in a condition: g++ 12 makes wrong code of some of these.)
  std::optional<HttpResponse> refused_by_head(const Parser& parser, const error_code& error, ServerRequest& request, bool& silent) {
    const auto bad = [&](int status, const std::string& why) {
      HttpResponse response = server_.hooks.on_bad(status, why);
      response.close = true;
      return response;
    };
    if (error) {
      if (timed_out_) return bad(408, "the headers took too long");
      if (error == http::error::header_limit || error == http::error::buffer_overflow)
        return bad(431, fmt::format("the headers are over {} bytes", server_.limits.max_head));
      silent = error == http::error::end_of_stream || error == http::error::partial_message || !is_http(error);
      if (silent) return {};
      return bad(400, "no HTTP request: " + error.message());
    }
    const std::string wrong = read_head(parser, request);
    request.local = local_;
    head_only_ = request.method == "HEAD";
    if (head_only_) request.method = "GET";
    if (parser.get().version() != 11) return bad(505, "only HTTP/1.1 is spoken here");
    if (!wrong.empty()) return bad(400, wrong);
    if (std::optional<HttpResponse> refusal = server_.hooks.on_head(request)) return refusal;
    if (parser.content_length().value_or(0) > server_.limits.max_body) return too_large();
    const std::string_view expects = request.header("expect");
    if (!expects.empty() && !beast::iequals(beast::string_view(expects.data(), expects.size()), "100-continue"))
      return bad(417, "of Expect only 100-continue is known");
    return {};
  }

  std::optional<HttpResponse> refused_by_body(const error_code& error, bool& silent) {
    if (!error) return {};
    if (timed_out_) return server_.hooks.on_bad(408, "no byte of the body came for too long");
    if (error == http::error::body_limit) return too_large();
    silent = !is_http(error) || error == http::error::end_of_stream || error == http::error::partial_message;
    if (silent) return {};
    return server_.hooks.on_bad(400, "the body: " + error.message());
  }

  HttpResponse too_large() {
    HttpResponse response = server_.hooks.on_bad(413, fmt::format("the body is over {} bytes (max_body_size)", server_.limits.max_body));
    response.close = true;
    return response;
  }

  asio::awaitable<bool> answer(ServerRequest request, bool ends) {
    request.body = std::exchange(body_, {});
    const bool head_only = head_only_;
    reply_ = std::make_shared<Reply>(weak_from_this(), head_only, ends);
    without_limit();
    if (buffer_.size() == 0) watch();  // else the next request is here already, and is read when its turn comes
    server_.hooks.on_request(std::move(request), reply_);
    const std::shared_ptr<Reply> reply = reply_;
    bool works = true;
    while (works && !reply->finished() && !eof_) {
      std::string out = reply->take();
      if (out.empty()) co_await sleep();
      else works = co_await write_all(std::move(out), reply.get());
    }
    if (!works || eof_) {
      reply->client_went();
      co_return false;
    }
    reply_.reset();
    if (!reply->closes()) co_return true;
    co_await linger();
    co_return false;
  }

  asio::awaitable<bool> answer_with(HttpResponse response) {
    const bool close = response.close;
    std::string out = head_text(response, close, false);
    if (!head_only_) out += response.body;
    const bool works = co_await write_all(std::move(out), nullptr);
    co_return works && !close;
  }

  asio::awaitable<bool> write_all(std::string out, Reply* reply) {
    for (size_t at = 0; at < out.size();) {
      error_code error;
      within(server_.limits.stall);
      const size_t n = co_await socket_.async_write_some(asio::buffer(out.data() + at, out.size() - at), into(error));
      if (error) co_return false;
      at += n;
      if (reply) reply->was_written(n);
    }
    without_limit();
    co_return true;
  }

  // Answers what is wrong, and ends: what else comes is not a request, or is not wanted.
  asio::awaitable<void> refuse(HttpResponse response) {
    response.close = true;
    co_await answer_with(std::move(response));
    co_await linger();
  }
  // A socket that is closed with bytes unread takes back what was sent: so they are read, for a while.
  asio::awaitable<void> linger() {
    error_code error;
    socket_.shutdown(Socket::shutdown_send, error);
    within(kLinger);
    std::vector<char> lost(16u << 10);
    while (!error && !timed_out_) {
      if (watching_) co_await sleep();
      else if (eof_) break;
      else co_await socket_.async_read_some(asio::buffer(lost), into(error));
    }
  }

  static bool is_http(const error_code& error) { return error.category() == make_error_code(http::error::bad_version).category(); }

  HttpServer::State& server_;
  Socket socket_;
  asio::steady_timer wake_;
  beast::flat_buffer buffer_{1u << 20};
  std::shared_ptr<Reply> reply_;
  std::string body_;
  Clock::time_point deadline_ = Clock::time_point::max();
  const bool local_;
  bool watching_ = false, waiting_ = false, eof_ = false, timed_out_ = false, ending_ = false, head_only_ = false;
  std::atomic<bool> wake_posted_{false};
};

void Reply::wake() {
  if (const auto connection = connection_.lock()) connection->wake_soon();
}

void Reply::send(HttpResponse response) {
  {
    const std::lock_guard lock(mutex_);
    if (begun_) return;
    begun_ = ended_ = true;
    if (response.close) close_ = true;
    put(head_text(response, close_, false));
    if (!head_only_) put(response.body);
  }
  wake();
}

void Reply::begin(HttpResponse head) {
  {
    const std::lock_guard lock(mutex_);
    if (begun_) return;
    begun_ = streams_ = true;
    if (head.close) close_ = true;
    ping_ = std::move(head.ping);
    put(head_text(head, close_, true));
    std::string chunk;
    append_chunk(chunk, head.body);
    put(chunk);
  }
  wake();
}

void Reply::write(std::string_view text) {
  {
    const std::lock_guard lock(mutex_);
    if (!begun_ || ended_ || gone_) return;
    std::string chunk;
    append_chunk(chunk, text);
    put(chunk);
  }
  wake();
}

void Reply::end(bool close) {
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    if (close) close_ = true;
    put("0\r\n\r\n");
  }
  wake();
}

void Reply::was_written(size_t bytes) {
  std::function<void()> call;
  const size_t before = buffered_.fetch_sub(bytes);
  if (before > kDrained && before - bytes <= kDrained) {
    const std::lock_guard lock(mutex_);
    call = when_drained_;
  }
  if (call) call();
}

void Reply::ping_after(Clock::duration silence) {
  {
    const std::lock_guard lock(mutex_);
    if (!streams_ || ended_ || buffered_ > 0 || Clock::now() - last_ < silence) return;
    std::string chunk;
    append_chunk(chunk, ping_);
    put(chunk);
  }
  wake();
}

// As many open files as the system lets us have: every connection is one.
void raise_open_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

void HttpServer::State::start(Socket socket, bool local) {
  error_code ignored;
  socket.set_option(asio::socket_base::send_buffer_size(kSendBuffer), ignored);
  const auto connection = std::make_shared<Connection>(*this, std::move(socket), local);
  const bool full = count >= limits.max_connections;
  all.insert(connection);
  ++count;
  asio::co_spawn(io, connection->serve(full), [this, connection](const std::exception_ptr&) {
    all.erase(connection);
    --count;
    end_if_idle();
  });
}

asio::awaitable<void> HttpServer::State::accept_tcp(size_t which) {
  asio::ip::tcp::acceptor& acceptor = tcp[which];
  while (acceptor.is_open()) {
    error_code error, ignored;
    asio::ip::tcp::socket socket = co_await acceptor.async_accept(into(error));
    if (error == asio::error::operation_aborted) co_return;
    if (error) {  // no descriptor left, or a client that is gone already
      asio::steady_timer pause(io, std::chrono::milliseconds(50));
      co_await pause.async_wait(into(ignored));
      continue;
    }
    socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    const auto from = socket.remote_endpoint(ignored).address();
    const bool mapped = from.is_v6() && from.to_v6().is_v4_mapped();
    const bool local = mapped ? asio::ip::make_address_v4(asio::ip::v4_mapped, from.to_v6()).is_loopback() : from.is_loopback();
    start(Socket(std::move(socket)), local);
  }
}

asio::awaitable<void> HttpServer::State::accept_unix(size_t which) {
  asio::local::stream_protocol::acceptor& acceptor = unix_sockets[which];
  while (acceptor.is_open()) {
    error_code error, ignored;
    asio::local::stream_protocol::socket socket = co_await acceptor.async_accept(into(error));
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      asio::steady_timer pause(io, std::chrono::milliseconds(50));
      co_await pause.async_wait(into(ignored));
      continue;
    }
    start(Socket(std::move(socket)), true);
  }
}

asio::awaitable<void> HttpServer::State::tick() {
  for (;;) {
    error_code error;
    ticker.expires_after(kTick);
    co_await ticker.async_wait(into(error));
    const auto now = Clock::now();
    const std::vector<std::shared_ptr<Connection>> each(all.begin(), all.end());
    for (const auto& connection : each) connection->tick(now);
    if (on_tick) on_tick();
  }
}

void HttpServer::State::begin_finish() {
  finishing = true;
  error_code ignored;
  for (auto& acceptor : tcp) acceptor.close(ignored);
  for (auto& acceptor : unix_sockets) acceptor.close(ignored);
  const std::vector<std::shared_ptr<Connection>> each(all.begin(), all.end());
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
  error_code error;
  asio::ip::tcp::resolver resolver(state_->io);
  const auto found = resolver.resolve(host, std::to_string(port), asio::ip::resolver_base::passive, error);
  if (error || found.empty()) throw failed(error.message(), "give an address of this machine: host 127.0.0.1, or 0.0.0.0 for all of them");
  const asio::ip::tcp::endpoint endpoint = found.begin()->endpoint();
  asio::ip::tcp::acceptor acceptor(state_->io);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
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
    error_code refused;
    asio::local::stream_protocol::socket probe(state_->io);
    probe.connect(asio::local::stream_protocol::endpoint(path), refused);
    if (!refused) throw failed("another program answers there", "end it, or give another path");
    ::unlink(path.c_str());
  }
  error_code error;
  asio::local::stream_protocol::acceptor acceptor(state_->io);
  acceptor.open(asio::local::stream_protocol(), error);
  const mode_t before = ::umask(0177);  // never open to others, not even for a moment
  if (!error) acceptor.bind(asio::local::stream_protocol::endpoint(path), error);
  ::umask(before);
  if (!error) acceptor.listen(1024, error);
  if (error) throw failed(error.message(), "give a path in a folder that you may write to");
  state_->unix_paths.push_back(path);
  state_->unix_sockets.push_back(std::move(acceptor));
}

void HttpServer::run() {
  for (size_t i = 0; i < state_->tcp.size(); ++i) asio::co_spawn(state_->io, state_->accept_tcp(i), asio::detached);
  for (size_t i = 0; i < state_->unix_sockets.size(); ++i) asio::co_spawn(state_->io, state_->accept_unix(i), asio::detached);
  asio::co_spawn(state_->io, state_->tick(), asio::detached);
  state_->io.run();
}

void HttpServer::when_ticking(std::function<void()> call) { state_->on_tick = std::move(call); }
void HttpServer::post(std::function<void()> call) { asio::post(state_->io, std::move(call)); }
void HttpServer::finish() {
  asio::post(state_->io, [this] { state_->begin_finish(); });
}
void HttpServer::stop() { state_->io.stop(); }
int HttpServer::connections() const { return state_->count; }

std::string parse_http_request(std::string_view bytes, const HttpLimits& limits, ServerRequest& request) {
  Parser parser;
  parser.header_limit(static_cast<uint32_t>(limits.max_head));
  parser.body_limit(limits.max_body);
  parser.eager(true);
  error_code error;
  for (size_t at = 0; at < bytes.size() && !parser.is_done();) {
    const size_t used = parser.put(asio::buffer(bytes.data() + at, bytes.size() - at), error);
    if (error) return error.message();
    if (used == 0) break;
    at += used;
  }
  if (!parser.is_header_done()) return "the headers are cut";
  if (const std::string wrong = read_head(parser, request); !wrong.empty()) return wrong;
  if (!parser.is_done()) return "the body is cut";
  request.body = std::move(parser.get().body());
  return {};
}

}  // namespace loraine
