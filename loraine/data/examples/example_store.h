// Where the ids of a run's examples lie: end to end in memory while they are few, beyond that in a file without a name, mapped in pieces,
// so that they do not count as memory of the process. Filled by whoever encodes rows (make_examples, prepared).
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "loraine/data/examples/example.h"

namespace loraine {

struct ExampleStoreOptions {
  // The file's: the nearest one that is there of the path; empty, or where no file can be made: TMPDIR, /var/tmp, /tmp.
  std::string folder;
  size_t in_memory = size_t{64} << 20;  // bytes of ids; what is more goes to the file
  size_t piece = size_t{64} << 20;      // bytes that are mapped at a time
  size_t resident = size_t{16} << 20;   // bytes of the file that may be in memory before what was read is let go of
};

class IdFile;
class MappedIds;

class ExampleStore {
 public:
  explicit ExampleStore(ExampleStoreOptions options);
  ~ExampleStore();
  ExampleStore(const ExampleStore&) = delete;
  ExampleStore& operator=(const ExampleStore&) = delete;

  // Lays the ids of these examples down in their order, and lets them refer to that. The store may go before the examples. Throws io where
  // the disk is full. Many at a time: each call is one write.
  void keep(std::span<Example* const> examples);
  void keep(std::span<Example> examples);
  size_t bytes_on_disk() const { return on_disk_; }

 private:
  ExampleStoreOptions options_;
  size_t kept_ = 0, on_disk_ = 0;
  std::shared_ptr<IdFile> file_;
  TokenIds piece_;  // the whole of the last one that was mapped
  size_t filled_ = 0;
};

}  // namespace loraine
