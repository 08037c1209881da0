// Rows of one set, pulled one at a time while a thread reads ahead a little. Used by stream.cpp.
#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "loraine/data/rows/rows.h"

namespace loraine {

class RowReader {
 public:
  explicit RowReader(DatasetInfo info);
  ~RowReader();
  RowReader(const RowReader&) = delete;
  RowReader& operator=(const RowReader&) = delete;
  // Begins with row `first`; rows from `last` on are not read (-1: to the end).
  void start(int64_t first = 0, int64_t last = -1);
  std::optional<Row> next();  // throws what reading threw

 private:
  void stop();
  void read(int64_t first, int64_t last);
  DatasetInfo info_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<Row>> ready_;
  std::vector<Row> current_;
  size_t at_ = 0;
  bool stopping_ = false, ended_ = false;
  std::exception_ptr failed_;
};

// How many rows a set has; reads it once.
int64_t count_rows(const DatasetInfo& info);

}  // namespace loraine
