// A connection is one coroutine: a request is read, its answer written, the next one read. While an answer is made the socket is watched
// for its end; the same read takes the first bytes of the next request. Started by server.cpp, whose thread runs all of them.
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "loraine/serve/http/asio.h"
#include "loraine/serve/http/reply.h"
#include "loraine/serve/http/server.h"

namespace loraine::net {

// What a connection sees of its server.
struct ConnectionHost {
  HttpLimits limits;
  HttpHooks hooks;
  asio::io_context io{1};
  bool finishing = false;  // no other request is read
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(ConnectionHost& host, Socket socket, bool local)
      : host_(host), socket_(std::move(socket)), wake_(host.io, Clock::time_point::max()), local_(local) {}

  asio::awaitable<void> serve(bool full);  // until it is closed; full: it is told that there are too many
  void wake() { wake_.cancel(); }
  void close();
  void tick(Clock::time_point now);
  // While no request is read or answered: ends, for the server does.
  void end_if_waiting();
  // wake() once more than once, from any thread.
  void wake_soon();

 private:
  void within(std::chrono::milliseconds time);
  void without_limit() { deadline_ = Clock::time_point::max(); }
  asio::awaitable<void> sleep();
  // Reads into the buffer in the background; the end of the client shows here.
  void watch();
  // Whether another request may follow.
  asio::awaitable<bool> one_request();
  // What is said to a head that is not taken, with close where what follows it cannot be told. silent: nothing is said, the connection
  // ends.
  std::optional<HttpResponse> refused_by_head(const Parser& parser, const error_code& error, ServerRequest& request, bool& silent);
  std::optional<HttpResponse> refused_by_body(const error_code& error, bool& silent);
  HttpResponse too_large();
  asio::awaitable<bool> answer(ServerRequest request, bool ends);
  asio::awaitable<bool> answer_with(HttpResponse response);
  asio::awaitable<bool> write_all(std::string out, Reply* reply);
  // Answers what is wrong, and ends: what else comes is not a request, or is not wanted.
  asio::awaitable<void> refuse(HttpResponse response);
  // A socket that is closed with bytes unread takes back what was sent: so they are read, for a while.
  asio::awaitable<void> linger();

  ConnectionHost& host_;
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

}  // namespace loraine::net
