// An HTTP/1.1 server: connections, limits, timeouts, streams with backpressure. It knows no route. One thread serves all connections.
// Called by serve/server.cpp. Only the files of this room include Boost (Beast and Asio).
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "loraine/serve/http/message.h"

namespace loraine {

struct HttpLimits {
  size_t max_body = 16u << 20, max_head = 64u << 10;
  int max_connections = 1024;
  std::chrono::milliseconds head{10'000};   // for all headers, from their first byte
  std::chrono::milliseconds body{30'000};   // without a byte of the body
  std::chrono::milliseconds idle{300'000};  // between requests
  std::chrono::milliseconds stall{60'000};  // without a byte taken of an answer
  std::chrono::milliseconds ping{15'000};   // silence in a stream, after which a comment is sent
};

struct HttpHooks {
  // Before the body is read: an answer here is the answer, and the body is not read.
  std::function<std::optional<HttpResponse>(const ServerRequest&)> on_head;
  // In the server's thread, so it must not take long; the reply may be used later, from any thread.
  std::function<void(ServerRequest, std::shared_ptr<HttpReply>)> on_request;
  // What to say to bytes that are no request, or not one that is taken.
  std::function<HttpResponse(int status, const std::string& why)> on_bad;
};

class HttpServer {
 public:
  HttpServer(HttpLimits limits, HttpHooks hooks);
  ~HttpServer();
  // Throws io or usage, naming the address. Port 0: any; gives the port.
  int listen_tcp(const std::string& host, int port);
  void listen_unix(const std::string& path);      // mode 0600; a socket that a dead server left there is replaced
  void run();                                     // until stop(), or until finish() was called and every answer is out
  void when_ticking(std::function<void()> call);  // in the server's thread, four times a second; before run()
  void post(std::function<void()> call);          // in the server's thread; from any thread
  void finish();                                  // no more connections; those that wait for a request are closed. From any thread
  void stop();                                    // from any thread
  int connections() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

// The request that the bytes are, by the same rules; gives what is wrong with it, or nothing. For tests and fuzzing.
std::string parse_http_request(std::string_view bytes, const HttpLimits& limits, ServerRequest& request);

}  // namespace loraine
