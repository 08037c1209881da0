// See connection.h. No co_await stands in an expression or in a condition: g++ 12 makes wrong code of some of these.
#include "loraine/serve/http/connection.h"

#include <fmt/format.h>

#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <vector>

#include "loraine/core/lower_case.h"

namespace loraine::net {
namespace {

constexpr std::chrono::milliseconds kLinger{2'000};  // for a refused body to arrive, so that its answer is not lost

// The head of a request; gives what is wrong with it, or nothing. HEAD comes out as it is.
std::string read_head(const Parser& parser, ServerRequest& request) {
  const auto& head = parser.get();
  request.method.assign(head.method_string().data(), head.method_string().size());
  for (const auto& field : head) {
    request.headers.emplace_back(lower_case({field.name_string().data(), field.name_string().size()}),
                                 std::string(field.value().data(), field.value().size()));
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

bool is_http(const error_code& error) { return error.category() == make_error_code(http::error::bad_version).category(); }

}  // namespace

asio::awaitable<void> Connection::serve(bool full) {
  try {
    if (full) {
      HttpResponse busy = host_.hooks.on_bad(503, "too many connections");
      busy.headers.emplace_back("retry-after", "1");
      co_await refuse(std::move(busy));
    } else {
      for (bool more = true; more;) more = co_await one_request();
    }
  } catch (const std::exception&) {}  // of this connection alone: no memory for its request, a socket that is no more
  close();
}

void Connection::close() {
  error_code ignored;
  socket_.close(ignored);
  if (reply_) reply_->client_went();
}

void Connection::tick(Clock::time_point now) {
  if (now >= deadline_) {
    deadline_ = Clock::time_point::max();
    timed_out_ = true;
    error_code ignored;
    socket_.cancel(ignored);
    wake();
  } else if (reply_) {
    reply_->ping_after(host_.limits.ping);
  }
}

void Connection::end_if_waiting() {
  if (waiting_) {
    ending_ = true;
    error_code ignored;
    socket_.cancel(ignored);
    wake();
  }
}

void Connection::wake_soon() {
  if (wake_posted_.exchange(true)) return;
  asio::post(host_.io, [self = shared_from_this()] {
    self->wake_posted_ = false;
    self->wake();
  });
}

void Connection::within(std::chrono::milliseconds time) {
  deadline_ = Clock::now() + time;
  timed_out_ = false;
}

asio::awaitable<void> Connection::sleep() {
  error_code ignored;
  wake_.expires_at(Clock::time_point::max());
  co_await wake_.async_wait(into(ignored));
}

void Connection::watch() {
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

asio::awaitable<bool> Connection::one_request() {
  if (host_.finishing) co_return false;
  within(host_.limits.idle);
  waiting_ = true;
  if (buffer_.size() == 0) watch();
  while (watching_ && !timed_out_ && !ending_) co_await sleep();
  waiting_ = false;
  if (eof_ || timed_out_ || ending_ || host_.finishing) co_return false;
  Parser parser;
  parser.header_limit(static_cast<uint32_t>(host_.limits.max_head));
  parser.body_limit(boost::none);
  within(host_.limits.head);
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
    parser.body_limit(host_.limits.max_body);
    if (!request.header("expect").empty()) co_await write_all("HTTP/1.1 100 Continue\r\n\r\n", nullptr);
    while (!error && !parser.is_done()) {
      within(host_.limits.body);
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

std::optional<HttpResponse> Connection::refused_by_head(const Parser& parser, const error_code& error, ServerRequest& request,
                                                        bool& silent) {
  const auto bad = [&](int status, const std::string& why) {
    HttpResponse response = host_.hooks.on_bad(status, why);
    response.close = true;
    return response;
  };
  if (error) {
    if (timed_out_) return bad(408, "the headers took too long");
    if (error == http::error::header_limit || error == http::error::buffer_overflow)
      return bad(431, fmt::format("the headers are over {} bytes", host_.limits.max_head));
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
  if (std::optional<HttpResponse> refusal = host_.hooks.on_head(request)) return refusal;
  if (parser.content_length().value_or(0) > host_.limits.max_body) return too_large();
  const std::string_view expects = request.header("expect");
  if (!expects.empty() && !beast::iequals(beast::string_view(expects.data(), expects.size()), "100-continue"))
    return bad(417, "of Expect only 100-continue is known");
  return {};
}

std::optional<HttpResponse> Connection::refused_by_body(const error_code& error, bool& silent) {
  if (!error) return {};
  if (timed_out_) return host_.hooks.on_bad(408, "no byte of the body came for too long");
  if (error == http::error::body_limit) return too_large();
  silent = !is_http(error) || error == http::error::end_of_stream || error == http::error::partial_message;
  if (silent) return {};
  return host_.hooks.on_bad(400, "the body: " + error.message());
}

HttpResponse Connection::too_large() {
  HttpResponse response = host_.hooks.on_bad(413, fmt::format("the body is over {} bytes (max_body_size)", host_.limits.max_body));
  response.close = true;
  return response;
}

asio::awaitable<bool> Connection::answer(ServerRequest request, bool ends) {
  request.body = std::exchange(body_, {});
  const bool head_only = head_only_;
  reply_ = std::make_shared<Reply>(
      [from = weak_from_this()] {
        if (const auto connection = from.lock()) connection->wake_soon();
      },
      head_only, ends);
  without_limit();
  if (buffer_.size() == 0) watch();  // else the next request is here already, and is read when its turn comes
  host_.hooks.on_request(std::move(request), reply_);
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

asio::awaitable<bool> Connection::answer_with(HttpResponse response) {
  const bool close = response.close;
  std::string out = head_text(response, close, false);
  if (!head_only_) out += response.body;
  const bool works = co_await write_all(std::move(out), nullptr);
  co_return works && !close;
}

asio::awaitable<bool> Connection::write_all(std::string out, Reply* reply) {
  for (size_t at = 0; at < out.size();) {
    error_code error;
    within(host_.limits.stall);
    const size_t n = co_await socket_.async_write_some(asio::buffer(out.data() + at, out.size() - at), into(error));
    if (error) co_return false;
    at += n;
    if (reply) reply->was_written(n);
  }
  without_limit();
  co_return true;
}

asio::awaitable<void> Connection::refuse(HttpResponse response) {
  response.close = true;
  co_await answer_with(std::move(response));
  co_await linger();
}

asio::awaitable<void> Connection::linger() {
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

}  // namespace loraine::net

namespace loraine {

std::string parse_http_request(std::string_view bytes, const HttpLimits& limits, ServerRequest& request) {
  net::Parser parser;
  parser.header_limit(static_cast<uint32_t>(limits.max_head));
  parser.body_limit(limits.max_body);
  parser.eager(true);
  net::error_code error;
  for (size_t at = 0; at < bytes.size() && !parser.is_done();) {
    const size_t used = parser.put(net::asio::buffer(bytes.data() + at, bytes.size() - at), error);
    if (error) return error.message();
    if (used == 0) break;
    at += used;
  }
  if (!parser.is_header_done()) return "the headers are cut";
  if (const std::string wrong = net::read_head(parser, request); !wrong.empty()) return wrong;
  if (!parser.is_done()) return "the body is cut";
  request.body = std::move(parser.get().body());
  return {};
}

}  // namespace loraine
