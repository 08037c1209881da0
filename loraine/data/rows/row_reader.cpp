// See row_reader.h.
#include "loraine/data/rows/row_reader.h"

#include <utility>

#include "loraine/core/signals.h"

namespace loraine {
namespace {

constexpr size_t kRowsAtATime = 256, kBytesAtATime = size_t{1} << 20, kPiecesAhead = 4;

}  // namespace

RowReader::RowReader(DatasetInfo info) : info_(std::move(info)) {}

RowReader::~RowReader() { stop(); }

void RowReader::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void RowReader::start(int64_t first, int64_t last) {
  stop();
  ready_.clear();
  current_.clear();
  at_ = 0;
  stopping_ = ended_ = false;
  failed_ = nullptr;
  thread_ = std::thread([this, first, last] { read(first, last); });
}

void RowReader::read(int64_t first, int64_t last) {
  have_signal_stack();  // the file is mapped, and may be cut while it is read
  std::vector<Row> piece;
  size_t bytes = 0;
  const auto hand_over = [&] {
    bytes = 0;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopping_ || ready_.size() < kPiecesAhead; });
    if (!stopping_) ready_.push_back(std::exchange(piece, {}));
    changed_.notify_all();
    return !stopping_;
  };
  std::exception_ptr failed;
  try {
    int64_t row_number = 0;
    each_row(info_, last < 0 ? std::nullopt : std::optional<int64_t>(last), [&](Row&& row) {
      if (row_number++ < first) return true;
      bytes += row.bytes();
      piece.push_back(std::move(row));
      return (piece.size() < kRowsAtATime && bytes < kBytesAtATime) || hand_over();
    });
    if (!piece.empty()) hand_over();
  } catch (...) { failed = std::current_exception(); }
  const std::lock_guard lock(mutex_);
  failed_ = failed;
  ended_ = true;
  changed_.notify_all();
}

std::optional<Row> RowReader::next() {
  if (at_ == current_.size()) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ || !ready_.empty(); });
    if (ready_.empty()) {
      if (failed_) std::rethrow_exception(failed_);
      return std::nullopt;
    }
    current_ = std::move(ready_.front());
    ready_.pop_front();
    at_ = 0;
    changed_.notify_all();
  }
  return std::move(current_[at_++]);
}

int64_t count_rows(const DatasetInfo& info) {
  int64_t n = 0;
  each_row(info, std::nullopt, [&](Row&&) {
    ++n;
    return true;
  });
  return n;
}

}  // namespace loraine
