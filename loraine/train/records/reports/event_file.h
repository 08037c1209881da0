// TensorBoard's event files: records of protocol buffers with masked CRC-32C sums, tags as transformers writes them. Called by reporters.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace loraine {

// ((c >> 15) | (c << 17)) + 0xa282ead8 over the CRC-32C (Castagnoli) of the bytes.
uint32_t masked_crc32c(std::string_view bytes);
// length (8 bytes), its sum (4), the bytes, their sum (4); numbers little endian.
std::string event_record(std::string_view bytes);

class EventFile {
 public:
  // A new file events.out.tfevents.SECONDS.HOST.PROCESS.N in `folder`, which is made. Error::io.
  explicit EventFile(const std::string& folder);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // What files of this folder hold from `step` on counts no longer: a run that went on from before it.
  void purge_from(int64_t step);
  void scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values);  // tag, value; one event
  void text(const std::string& tag, const std::string& text);                             // at step 0, under TAG/text_summary
  void close();                                                                           // flushed to the disk; Error::io
  const std::string& path() const { return path_; }

 private:
  void write(const std::string& event);

  std::string path_;
  int fd_ = -1;
};

// The newest folder below `runs` that holds an event file, by the seconds in its name; empty where there is none.
std::string newest_event_folder(const std::string& runs);
// "Nov29_18-41-03_HOST", as torch's SummaryWriter names a run.
std::string event_folder_name();

}  // namespace loraine
