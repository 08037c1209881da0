// Requests over libcurl.
#include "loraine/io/hub/http.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <exception>
#include <thread>

#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"
#include "loraine/core/stopped.h"
#include "loraine/io/hub/curl_library.h"

namespace loraine {
namespace {

constexpr size_t kMostBody = 256u << 20, kMostHeaders = 1u << 20;
constexpr int kMostRedirects = 8;
constexpr int64_t kLongestWait = 300;  // seconds

// One attempt under way: what the callbacks of libcurl work on. No exception may pass through libcurl: it is kept, and thrown after.
struct Exchange {
  HttpAnswer answer;
  const HttpSink* sink = nullptr;
  const HttpRequest* request = nullptr;
  const HttpAnswer* before = nullptr;  // of redirects
  CURL* curl = nullptr;
  int file = -1;
  uint64_t sent = 0, size = 0;
  size_t header_bytes = 0, received = 0;
  bool begun = false;
  std::exception_ptr thrown;

  bool goes_to_sink() const { return sink && sink->data && (answer.status == 200 || answer.status == 206); }

  void begin_sink() {
    if (begun) return;
    begun = true;
    merge_before();
    if (sink->begin) sink->begin(answer);
  }
  void merge_before() {
    for (const auto& [name, value] : before->headers) answer.headers.try_emplace(name, value);
  }
};

size_t on_header(char* data, size_t one, size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const size_t bytes = one * count;
  exchange.header_bytes += bytes;
  if (exchange.header_bytes > kMostHeaders) return 0;
  try {
    std::string line(data, bytes);
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.pop_back();
    if (line.starts_with("HTTP/")) exchange.answer.headers.clear();  // of an interim answer
    if (const size_t colon = line.find(':'); colon != line.npos) {
      const size_t value = line.find_first_not_of(" \t", colon + 1);
      exchange.answer.headers[lower_case(line.substr(0, colon))] = value == line.npos ? "" : line.substr(value);
    }
  } catch (...) {
    exchange.thrown = std::current_exception();
    return 0;
  }
  return bytes;
}

size_t on_data(char* data, size_t one, size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const size_t bytes = one * count;
  try {
    curl_library().easy_getinfo(exchange.curl, CURLINFO_RESPONSE_CODE, &exchange.answer.status);
    exchange.received += bytes;
    if (exchange.goes_to_sink()) {
      exchange.begin_sink();
      exchange.sink->data(data, bytes);
    } else {
      if (exchange.answer.body.size() + bytes > kMostBody)
        throw Error(ErrorKind::bad_data, url_host(exchange.request->url) + ": the answer is longer than any that was expected");
      exchange.answer.body.append(data, bytes);
    }
  } catch (...) {
    exchange.thrown = std::current_exception();
    return bytes + 1;  // any other number ends the transfer
  }
  return bytes;
}

size_t on_send(char* data, size_t one, size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const uint64_t left = exchange.size - exchange.sent;
  const size_t wanted = static_cast<size_t>(std::min<uint64_t>(one * count, left));
  if (wanted == 0) return 0;
  size_t bytes = 0;
  if (exchange.file >= 0) {
    ssize_t got;
    do got = ::pread(exchange.file, data, wanted, static_cast<off_t>(exchange.request->file->offset + exchange.sent));
    while (got < 0 && errno == EINTR);
    if (got <= 0) {
      const std::string why = got < 0 ? std::strerror(errno) : "it became shorter while it was sent";
      exchange.thrown = std::make_exception_ptr(Error(ErrorKind::io, exchange.request->file->path + ": cannot be read: " + why));
      return CURL_READFUNC_ABORT;
    }
    bytes = static_cast<size_t>(got);
  } else {
    std::memcpy(data, exchange.request->body.data() + exchange.sent, wanted);
    bytes = wanted;
  }
  exchange.sent += bytes;
  return bytes;
}

int on_seek(void* user, curl_off_t offset, int origin) {
  auto& exchange = *static_cast<Exchange*>(user);
  if (origin != SEEK_SET || offset < 0 || static_cast<uint64_t>(offset) > exchange.size) return CURL_SEEKFUNC_FAIL;
  exchange.sent = static_cast<uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t sent) {
  auto& exchange = *static_cast<Exchange*>(user);
  if (transfers_stopped()) return 1;
  try {
    if (exchange.request->progress && sent > 0) exchange.request->progress(static_cast<uint64_t>(sent));
  } catch (...) {
    exchange.thrown = std::current_exception();
    return 1;
  }
  return 0;
}

// Hugging Face's own header: RateLimit: "api";r=0;t=55. Seconds; 0 where it does not say.
int64_t rate_limit_reset(const HttpAnswer& answer) {
  const std::string text = answer.header("ratelimit");
  const size_t at = text.find(";t=");
  int64_t seconds = 0;
  if (at != text.npos) std::from_chars(text.data() + at + 3, text.data() + text.size(), seconds);
  return std::max<int64_t>(seconds, 0);
}

struct File {
  int fd = -1;
  ~File() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

struct HttpClient::Curl {
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  Curl() {
    easy = curl_library().easy_init();
    if (!easy) throw Error(ErrorKind::out_of_memory, "libcurl: no memory for a connection");
  }
  ~Curl() {
    curl_library().slist_free_all(headers);
    curl_library().easy_cleanup(easy);
  }
  void add_header(const std::string& line) {
    curl_slist* longer = curl_library().slist_append(headers, line.c_str());
    if (!longer) throw Error(ErrorKind::out_of_memory, "libcurl: no memory for a header");
    headers = longer;
  }
};

std::string HttpAnswer::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

bool is_worth_a_retry(long status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

bool Patience::wait(int64_t retry_after) {
  if (attempts_ >= 5 || retry_after > kLongestWait) return false;
  const double seconds = retry_after > 0 ? static_cast<double>(retry_after) : first_ * static_cast<double>(1 << attempts_);
  ++attempts_;
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  while (Clock::now() < end) {
    if (transfers_stopped()) throw Stopped();
    std::this_thread::sleep_for(std::min<Clock::duration>(std::chrono::milliseconds(50), end - Clock::now()));
  }
  return true;
}

HttpClient::HttpClient(Hub hub, const HubAccess& access, bool to_write)
    : hub_(hub), access_(access), endpoint_(loraine::endpoint(hub)), token_(hub_token(hub, access, to_write)) {
  if (offline())
    throw Error(ErrorKind::usage,
                fmt::format("HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, and {} would have to be asked", url_host(endpoint_)),
                "unset it, or set it to 0");
  curl_ = std::make_unique<Curl>();
}

HttpClient::~HttpClient() = default;

std::string HttpClient::safe(const std::string& text) const {
  std::string out = text;
  if (!token_.secret.empty())
    for (size_t at = 0; (at = out.find(token_.secret, at)) != out.npos; at += 3) out.replace(at, token_.secret.size(), "***");
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  if (out.size() > 300) {
    size_t end = 300;
    while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xc0) == 0x80) --end;  // between two letters of UTF-8
    out = out.substr(0, end) + "…";
  }
  return out;
}

HttpAnswer HttpClient::attempt(const HttpRequest& first, const HttpSink& sink) {
  HttpRequest request = first;
  HttpAnswer before;  // headers of redirects
  File file;
  if (request.file) {
    file.fd = ::open(request.file->path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file.fd < 0) throw Error(ErrorKind::io, request.file->path + ": cannot be opened: " + std::strerror(errno));
  }
  for (int hop = 0;; ++hop) {
    if (transfers_stopped()) throw Stopped();
    Exchange exchange;
    exchange.sink = &sink;
    exchange.request = &request;
    exchange.before = &before;
    exchange.answer.url = request.url;
    exchange.file = file.fd;
    exchange.size = request.file ? request.file->size : request.body.size();
    CURL* curl = exchange.curl = curl_->easy;
    curl_library().easy_reset(curl);
    curl_library().slist_free_all(curl_->headers);
    curl_->headers = nullptr;
    const bool waits = request.method == "POST" || request.method == "PUT";  // what is sent may take a while to be taken in
    char reason[CURL_ERROR_SIZE] = "";
    curl_library().easy_setopt(curl, CURLOPT_URL, request.url.c_str());
    curl_library().easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_library().easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_library().easy_setopt(curl, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    curl_library().easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_library().easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_library().easy_setopt(curl, CURLOPT_USERAGENT, "loraine");
    curl_library().easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(answer_timeout()));
    curl_library().easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_library().easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(std::max(download_timeout(), waits ? int64_t{60} : 0)));
    curl_library().easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_library().easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
    curl_library().easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_library().easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
    curl_library().easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_library().easy_setopt(curl, CURLOPT_XFERINFODATA, &exchange);
    curl_library().easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})  // of networks with certificates of their own
      if (const char* bundle = std::getenv(name); bundle && *bundle) {
        curl_library().easy_setopt(curl, CURLOPT_CAINFO, bundle);
        break;
      }
    for (const std::string& line : request.headers) curl_->add_header(line);
    const bool own = same_origin(request.url, endpoint_) || (request.token_in_domain && same_domain(request.url, endpoint_));
    if (request.may_have_token && !token_.secret.empty() && own) {
      curl_->add_header("Authorization: Bearer " + token_.secret);
      if (hub_ == Hub::modelscope) curl_->add_header("Cookie: m_session_id=" + token_.secret);
    }
    if (request.method == "HEAD") curl_library().easy_setopt(curl, CURLOPT_NOBODY, 1L);
    if (request.method == "POST" || request.method == "PUT") {
      curl_->add_header("Expect:");  // no round trip before the body
      curl_library().easy_setopt(curl, CURLOPT_READFUNCTION, on_send);
      curl_library().easy_setopt(curl, CURLOPT_READDATA, &exchange);
      curl_library().easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
      curl_library().easy_setopt(curl, CURLOPT_SEEKDATA, &exchange);
      if (request.method == "POST") {
        curl_library().easy_setopt(curl, CURLOPT_POST, 1L);
        curl_library().easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(exchange.size));
      } else {
        curl_library().easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_library().easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(exchange.size));
      }
    }
    curl_library().easy_setopt(curl, CURLOPT_HTTPHEADER, curl_->headers);
    const CURLcode code = curl_library().easy_perform(curl);
    HttpAnswer& answer = exchange.answer;
    curl_library().easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
    if (exchange.thrown) std::rethrow_exception(exchange.thrown);
    if (code == CURLE_ABORTED_BY_CALLBACK && transfers_stopped()) throw Stopped();
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
      throw Error(ErrorKind::io, fmt::format("{}: its certificate was not accepted: {}", url_host(request.url), safe(reason)),
                  "install ca-certificates; behind a proxy with certificates of its own name them: SSL_CERT_FILE=FILE");
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT)
      throw Error(ErrorKind::io, fmt::format("{}: is no http address", url_host(request.url)));
    if (code != CURLE_OK) {
      std::string text = *reason ? reason : curl_library().easy_strerror(code);
      if (code == CURLE_OPERATION_TIMEDOUT && answer.status == 0 && exchange.received == 0) text = "no answer came in time: " + text;
      throw ConnectionFailure{safe(text),
                              code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST && code != CURLE_COULDNT_RESOLVE_PROXY};
    }
    curl_off_t wait = 0;
    curl_library().easy_getinfo(curl, CURLINFO_RETRY_AFTER, &wait);
    answer.retry_after = wait > 0 ? static_cast<int64_t>(wait) : answer.status == 429 ? rate_limit_reset(answer) : 0;
    const bool redirected =
        answer.status == 301 || answer.status == 302 || answer.status == 303 || answer.status == 307 || answer.status == 308;
    exchange.merge_before();
    if (!redirected) {
      if (exchange.goes_to_sink()) exchange.begin_sink();  // of an empty file
      return std::move(answer);
    }
    const std::string location = answer.header("location");
    const std::string next = joined_url(request.url, location);
    if (next.empty()) throw Error(ErrorKind::io, fmt::format("{}: redirects to no address", url_host(request.url)));
    if (!request.follow_elsewhere && !same_origin(next, request.url)) return std::move(answer);
    if (hop + 1 >= kMostRedirects) throw Error(ErrorKind::io, fmt::format("{}: redirects without end", url_host(first.url)));
    if (request.url.starts_with("https://") && !next.starts_with("https://"))
      throw Error(ErrorKind::io, fmt::format("{}: redirects to {}, which is not encrypted", url_host(request.url), url_host(next)));
    request.url = next;
    if (answer.status == 303) request.method = "GET", request.body.clear(), request.file.reset();
    answer.headers.erase("location");
    answer.headers.erase("content-length");
    before = std::move(answer);
  }
}

HttpAnswer HttpClient::send(const HttpRequest& request) {
  Patience patience;
  for (bool last = false;;) {
    try {
      HttpAnswer answer = attempt(request);
      if (!is_worth_a_retry(answer.status) || last || !patience.wait(answer.retry_after)) return answer;
    } catch (const ConnectionFailure& failure) {
      // Whoever has no network should not wait long to hear of it.
      if (last || !patience.wait()) throw unreachable(*this, request.url, failure);
      last = !failure.reached;
    }
  }
}

HubUnreachable unreachable(const HttpClient& client, const std::string& url, const ConnectionFailure& failure) {
  return HubUnreachable(ErrorKind::io,
                        fmt::format("{}: {}: {}", url_host(url),
                                    failure.reached ? "the connection failed again and again" : "cannot be reached", failure.reason),
                        client.hub() == Hub::hugging_face
                            ? "check the network and proxies (HTTPS_PROXY); a mirror is chosen by HF_ENDPOINT=https://…; what was loaded "
                              "stays, and the next call goes on from there"
                            : "check the network and proxies (HTTPS_PROXY); what was loaded stays, and the next call goes on from there");
}

}  // namespace loraine
