// See packed_spool.h.
#include "loraine/export/calibrated/packed_spool.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "loraine/core/error.h"
#include "loraine/core/tensor.h"

namespace loraine {
namespace {

[[noreturn]] void spool_failed(const std::string& path) {
  throw Error(ErrorKind::io, fmt::format("{}: cannot be written: {}", path, std::strerror(errno)), "is there room on the disk?");
}

}  // namespace

PackedSpool::PackedSpool(std::string path) : path_(std::move(path)), file_(std::fopen(path_.c_str(), "wb")) {
  if (!file_) spool_failed(path_);
}

PackedSpool::~PackedSpool() {
  if (file_) std::fclose(file_);
  mapped_.reset();
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

void PackedSpool::add(SafetensorsEntry entry, const void* data) {
  const size_t bytes = Tensor(nullptr, entry.dtype, entry.shape).bytes();
  if (std::fwrite(data, 1, bytes, file_) != bytes) spool_failed(path_);
  places_.push_back({std::move(entry), end_, bytes});
  end_ += bytes;
}

std::vector<WeightToWrite> PackedSpool::weights() {
  std::FILE* file = std::exchange(file_, nullptr);
  if (std::fclose(file) != 0) spool_failed(path_);
  mapped_ = std::make_unique<MappedFile>(path_);
  std::vector<WeightToWrite> all;
  for (const Place& place : places_)
    all.push_back({place.entry, [data = mapped_->data() + place.at, bytes = place.bytes](const WriteBytes& write) { write(data, bytes); }});
  return all;
}

}  // namespace loraine
