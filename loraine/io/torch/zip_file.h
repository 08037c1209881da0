// Zip archives whose entries are stored uncompressed, as torch.save writes them: the directory, checked, so that entries can be used in
// place; and a writer of such archives. Used by the reader and the writer of torch's .bin files.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "loraine/io/files/durable_file.h"

namespace loraine {

struct ZipEntry {
  std::string name;
  uint64_t offset = 0, size = 0;  // of the entry's bytes in the file
  uint32_t crc = 0;
};

// Every entry lies within the file, none overlaps another, and no name is there twice. Compressed or encrypted entries, archives in several
// parts and names that leave the archive are refused: bad_data naming `file` and the entry. At most 1,000,000 entries.
std::vector<ZipEntry> read_zip_directory(const std::string& file, const unsigned char* data, size_t size);

// Throws bad_data when the entry's bytes do not have its checksum.
void check_zip_entry(const std::string& file, const unsigned char* data, const ZipEntry& entry);

// Writes entries one after another; their bytes begin at multiples of 64. Durable: appears when finish() returns.
class ZipWriter {
 public:
  explicit ZipWriter(const std::string& path) : out_(path) {}
  void begin(const std::string& name);
  void write(const void* data, size_t bytes);
  void end();
  void finish();

 private:
  void put(const std::string& bytes);
  struct Written {
    ZipEntry entry;
    uint64_t header = 0;  // where its local header begins
  };
  DurableFile out_;
  std::vector<Written> entries_;
  uint64_t position_ = 0;
};

}  // namespace loraine
