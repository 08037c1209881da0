// Requests to one hub over libcurl: time limits, redirects, new attempts with pauses between, and the one rule about tokens: the hub's own
// address gets it, in a header; whoever it redirects to does not. Called by the listing, downloads and uploads of this room.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/io/hub/environment.h"
#include "loraine/io/hub/url.h"

namespace loraine {

struct HttpRequest {
  std::string method = "GET";  // GET, HEAD, POST, PUT
  std::string url;
  std::vector<std::string> headers = {};  // "Name: value"; the token comes by itself
  std::string body = {};                  // POST, PUT
  // Or a part of a file, which is sent as it is.
  struct FilePart {
    std::string path;
    uint64_t offset = 0, size = 0;
  };
  std::optional<FilePart> file = {};
  bool follow_elsewhere = true;  // redirects to another origin; others always
  bool may_have_token = true;    // to the hub's own address
  bool token_in_domain = false;  // and, encrypted, to other names of its domain (same_domain)
  std::function<void(uint64_t sent)> progress = {};
};

struct HttpAnswer {
  long status = 0;
  std::map<std::string, std::string> headers;  // names in lower case; of the last of several, and of redirects those the last lacks
  std::string body;
  std::string url;          // that answered in the end
  int64_t retry_after = 0;  // seconds that the hub asks to wait; 0: it does not say
  std::string header(const std::string& name) const;
};

// Takes the bytes of an answer of 200 or 206 as they come; others are kept as HttpAnswer::body.
struct HttpSink {
  std::function<void(const HttpAnswer& head)> begin;
  std::function<void(const char* data, size_t bytes)> data;
};

// The connection failed, or ended early: worth another attempt. Becomes an Error in send() when attempts are used up.
struct ConnectionFailure {
  std::string reason;   // "the connection was closed after 10 of 20 bytes"
  bool reached = true;  // false: no connection came about
};

// Pauses before new attempts: 0.5 s, 1, 2, 4, 8; or as long as the hub asks, up to five minutes.
class Patience {
 public:
  explicit Patience(double first = 0.5) : first_(first) {}
  // False: no attempt is left, or the hub asks for a longer wait than that. Throws Stopped.
  bool wait(int64_t retry_after = 0);
  void renew() { attempts_ = 0; }  // something came
 private:
  double first_;
  int attempts_ = 0;
};

bool is_worth_a_retry(long status);  // 408, 429, 500, 502, 503, 504

class HttpClient {
 public:
  HttpClient(Hub hub, const HubAccess& access, bool to_write = false);  // refuses offline
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // One attempt. Throws ConnectionFailure; Error io for what no attempt changes (certificates, an address of another kind); Stopped.
  HttpAnswer attempt(const HttpRequest& request, const HttpSink& sink = {});
  // Attempts while the connection fails or the answer is worth it. Any status may come back. Throws io when no connection holds.
  HttpAnswer send(const HttpRequest& request);

  Hub hub() const { return hub_; }
  const std::string& endpoint() const { return endpoint_; }
  const HubToken& token() const { return token_; }
  const HubAccess& access() const { return access_; }
  // Text of others for a message: printable, short, and without the token.
  std::string safe(const std::string& text) const;

 private:
  struct Curl;
  Hub hub_;
  HubAccess access_;
  std::string endpoint_;
  HubToken token_;
  std::unique_ptr<Curl> curl_;
};

// Error io: a hub that does not answer.
struct HubUnreachable : Error {
  using Error::Error;
};
HubUnreachable unreachable(const HttpClient& client, const std::string& url, const ConnectionFailure& failure);

}  // namespace loraine
