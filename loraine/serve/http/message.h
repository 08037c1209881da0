// What the HTTP server and whoever answers say to each other. Plain data and one interface: nothing of the library below shows.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace loraine {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct ServerRequest {
  std::string method;   // HEAD comes as GET: the server leaves the body of its answer out
  std::string path;     // decoded, without the query
  std::string query;    // as it came
  HttpHeaders headers;  // names in lower case
  std::string body;
  bool local = false;  // from this machine: loopback or a Unix socket
  // The value of the first header of this name (in lower case); empty without one.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpHeaders headers = {};
  bool close = false;               // the connection ends behind it
  std::string ping = ": ping\n\n";  // of a stream: sent after a silence
};

// The answer to one request: either `send`, or `begin`, any number of `write`, `end`. Every call may come from any thread and none blocks.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  virtual void send(HttpResponse response) = 0;
  virtual void begin(HttpResponse head) = 0;      // its body is sent first
  virtual void write(std::string_view text) = 0;  // as one chunk
  virtual void end(bool close = false) = 0;
  virtual bool gone() const = 0;        // the client went away
  virtual size_t buffered() const = 0;  // bytes that it has not taken yet
  // Called in the server's thread: once, when the client goes away before the end; and whenever it has taken what was buffered. Set before
  // the first `begin`, in the server's thread or before the reply is handed on.
  virtual void when_gone(std::function<void()> call) = 0;
  virtual void when_drained(std::function<void()> call) = 0;
};

// Percent-decoded; false where a % is not followed by two hexadecimal digits or a control character comes out.
bool percent_decode(std::string_view text, std::string& out);
const char* http_reason(int status);

}  // namespace loraine
