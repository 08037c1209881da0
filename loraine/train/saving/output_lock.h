// One writer per output folder. Held by a run and by a comparison.
#pragma once
#include <string>

namespace loraine {

// Holds output_dir/.loraine.lock (made when absent) until destroyed; Error usage names the process that holds it already.
class OutputLock {
 public:
  explicit OutputLock(const std::string& output_dir);
  ~OutputLock();
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace loraine
