// See reply.h.
#include "loraine/serve/http/reply.h"

#include <fmt/format.h>

#include <iterator>

namespace loraine {
namespace {

constexpr size_t kDrained = 64u << 10;  // buffered bytes below which an answer goes on

void append_chunk(std::string& out, std::string_view text) {
  if (text.empty()) return;  // an empty chunk would be the end
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", text.size());
  out.append(text).append("\r\n");
}

}  // namespace

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

void Reply::send(HttpResponse response) {
  {
    const std::lock_guard lock(mutex_);
    if (begun_) return;
    begun_ = ended_ = true;
    if (response.close) close_ = true;
    put(head_text(response, close_, false));
    if (!head_only_) put(response.body);
  }
  wake_();
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
  wake_();
}

void Reply::write(std::string_view text) {
  {
    const std::lock_guard lock(mutex_);
    if (!begun_ || ended_ || gone_) return;
    std::string chunk;
    append_chunk(chunk, text);
    put(chunk);
  }
  wake_();
}

void Reply::end(bool close) {
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    if (close) close_ = true;
    put("0\r\n\r\n");
  }
  wake_();
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

void Reply::ping_after(std::chrono::steady_clock::duration silence) {
  {
    const std::lock_guard lock(mutex_);
    if (!streams_ || ended_ || buffered_ > 0 || std::chrono::steady_clock::now() - last_ < silence) return;
    std::string chunk;
    append_chunk(chunk, ping_);
    put(chunk);
  }
  wake_();
}

}  // namespace loraine
