// The answer of a connection on its way: what others write comes together here until the connection sends it. Used by connection.cpp.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "loraine/serve/http/message.h"

namespace loraine {

// The status line and the headers, with the empty line behind them.
std::string head_text(const HttpResponse& response, bool close, bool chunked);

class Reply : public HttpReply {
 public:
  // wake: called from any thread when there is something to be written.
  Reply(std::function<void()> wake, bool head_only, bool close) : wake_(std::move(wake)), head_only_(head_only), close_(close) {}
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
  void ping_after(std::chrono::steady_clock::duration silence);
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
    last_ = std::chrono::steady_clock::now();
  }
  const std::function<void()> wake_;
  const bool head_only_;
  mutable std::mutex mutex_;
  std::string out_, ping_;
  bool begun_ = false, ended_ = false, streams_ = false;
  std::atomic<bool> close_, gone_{false};
  std::atomic<size_t> buffered_{0};
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::function<void()> when_gone_, when_drained_;
};

}  // namespace loraine
