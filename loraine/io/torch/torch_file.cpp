// A zip archive with a pickle that describes the tensors and an entry for the bytes of each storage.
#include "loraine/io/torch/torch_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/tensors/read_elements.h"
#include "loraine/io/torch/torch_pickle.h"
#include "loraine/io/torch/zip_file.h"

namespace loraine {
namespace {

class TorchSource : public TensorSource {
 public:
  TorchSource(const std::string& path, nlohmann::json* values) : file_(path), path_(path) {
    if (file_.size() >= 4 && std::memcmp(file_.data(), "PK", 2) != 0)
      throw Error(ErrorKind::bad_data, path + ": is not a zip archive; files that torch before 1.6 wrote are not read",
                  "load and save it again with a newer torch, or as safetensors");
    storages_ = read_zip_directory(path, file_.data(), file_.size());
    checked_ = std::vector<std::atomic<bool>>(storages_.size());
    const ZipEntry* pickle = nullptr;
    for (const ZipEntry& entry : storages_)
      if (entry.name.ends_with("/data.pkl") && entry.name.find('/') + 9 == entry.name.size()) {
        if (pickle) throw Error(ErrorKind::bad_data, path + ": has both " + in_quotes(pickle->name) + " and " + in_quotes(entry.name));
        pickle = &entry;
      }
    if (!pickle)
      throw Error(ErrorKind::bad_data, path + ": has no entry NAME/data.pkl, as a file of torch.save has",
                  "save the tensors as safetensors");
    const std::string root = pickle->name.substr(0, pickle->name.size() - 8);
    check_zip_entry(path, file_.data(), *pickle);
    check_byte_order(root);
    std::map<std::string, size_t> by_name;
    for (size_t i = 0; i < storages_.size(); ++i) by_name[storages_[i].name] = i;
    const unsigned char* from = file_.data() + pickle->offset;
    std::vector<PickledTensor> tensors =
        values ? read_nested_state(path, from, pickle->size, *values) : read_state_dict(path, from, pickle->size);
    std::sort(tensors.begin(), tensors.end(), [](const PickledTensor& a, const PickledTensor& b) { return a.name < b.name; });
    for (const PickledTensor& t : tensors) {
      if (!infos_.empty() && infos_.back().name == t.name)
        throw Error(ErrorKind::bad_data, path + ": has the tensor " + in_quotes(t.name) + " twice");
      auto storage = by_name.find(root + "data/" + t.storage);
      if (storage == by_name.end())
        throw Error(ErrorKind::bad_data, fmt::format("{}: the bytes of {} (entry {}) are not in the archive", path, in_quotes(t.name),
                                                     in_quotes(root + "data/" + t.storage)));
      uint64_t bytes = 0;
      if (__builtin_mul_overflow(static_cast<uint64_t>(t.storage_elements), size_of(t.dtype), &bytes) ||
          bytes != storages_[storage->second].size)
        throw Error(ErrorKind::bad_data,
                    fmt::format("{}: {} should lie in {} elements of {}, and its entry has {} bytes", path, in_quotes(t.name),
                                t.storage_elements, name_of(t.dtype), storages_[storage->second].size));
      infos_.push_back({t.name, t.dtype, t.shape, name_of(t.dtype), path});
      places_.push_back({storage->second, t.offset, t.stride});
    }
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }

  Tensor map(const TensorInfo& info) const override {
    const Place& place = place_of(info);
    const unsigned char* at = bytes_of(info, place);
    const bool usable = row_major(info, place) && reinterpret_cast<uintptr_t>(at) % size_of(info.dtype) == 0;
    return Tensor(usable ? const_cast<unsigned char*>(at) : nullptr, info.dtype, std::span<const int64_t>(info.shape));
  }

  void read(const TensorInfo& info, const Tensor& out) const override {
    const Place& place = place_of(info);
    const unsigned char* at = bytes_of(info, place);
    if (row_major(info, place)) return read_plain(info, at, out);
    const std::vector<unsigned char> packed = gather(info, place, at);
    read_plain(info, packed.data(), out);
  }

 private:
  struct Place {
    size_t storage;
    int64_t offset;               // elements
    std::vector<int64_t> stride;  // elements
  };

  void check_byte_order(const std::string& root) const {
    for (const ZipEntry& entry : storages_) {
      if (entry.name != root + "byteorder") continue;
      const std::string order(reinterpret_cast<const char*>(file_.data() + entry.offset), std::min<uint64_t>(entry.size, 16));
      if (order != "little") throw Error(ErrorKind::bad_data, path_ + ": its byte order is " + in_quotes(order) + ", expected \"little\"");
    }
  }
  const Place& place_of(const TensorInfo& info) const {
    const TensorInfo* known = find(info.name);
    if (!known) throw Error(ErrorKind::internal, info.name + ": not a tensor of this source");
    return places_[static_cast<size_t>(known - infos_.data())];
  }
  const unsigned char* bytes_of(const TensorInfo& info, const Place& place) const {
    const ZipEntry& storage = storages_[place.storage];
    if (!checked_[place.storage]) {
      check_zip_entry(path_, file_.data(), storage);
      checked_[place.storage] = true;
    }
    return file_.data() + storage.offset + static_cast<uint64_t>(place.offset) * size_of(info.dtype);
  }
  static bool row_major(const TensorInfo& info, const Place& place) {
    int64_t expected = 1;
    for (size_t d = info.shape.size(); d-- > 0;) {
      if (info.shape[d] != 1 && place.stride[d] != expected) return false;
      expected *= std::max<int64_t>(info.shape[d], 1);
    }
    return true;
  }
  // The elements in row-major order. The reader has seen that every index lies in the storage.
  static std::vector<unsigned char> gather(const TensorInfo& info, const Place& place, const unsigned char* at) {
    const size_t element = size_of(info.dtype);
    std::vector<unsigned char> packed(static_cast<size_t>(element_count(info)) * element);
    std::vector<int64_t> index(info.shape.size(), 0);
    int64_t from = 0;
    for (size_t to = 0; to < packed.size(); to += element) {
      std::memcpy(packed.data() + to, at + from * static_cast<int64_t>(element), element);
      for (size_t d = index.size(); d-- > 0;) {
        from += place.stride[d];
        if (++index[d] < info.shape[d]) break;
        from -= place.stride[d] * index[d];
        index[d] = 0;
      }
    }
    return packed;
  }

  MappedFile file_;
  std::string path_;
  std::vector<ZipEntry> storages_;  // every entry of the archive
  mutable std::vector<std::atomic<bool>> checked_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
};

}  // namespace

std::unique_ptr<TensorSource> open_torch_file(const std::string& file) { return std::make_unique<TorchSource>(file, nullptr); }
std::unique_ptr<TensorSource> open_torch_state(const std::string& file, nlohmann::json& values) {
  return std::make_unique<TorchSource>(file, &values);
}

void stream_torch_file(const std::string& file, const std::vector<SafetensorsEntry>& entries,
                       const std::function<void(size_t index, const WriteBytes& write)>& produce) {
  std::string root = file.substr(file.find_last_of('/') + 1);
  root = root.substr(0, root.find_last_of('.')) + "/";
  ZipWriter zip(file);
  auto put = [&](const std::string& name, const std::string& content) {
    zip.begin(root + name);
    zip.write(content.data(), content.size());
    zip.end();
  };
  put("data.pkl", write_state_dict(entries));
  put("byteorder", "little");
  for (size_t i = 0; i < entries.size(); ++i) {
    uint64_t expected = size_of(entries[i].dtype), written = 0;
    for (int64_t size : entries[i].shape) expected *= static_cast<uint64_t>(size);
    zip.begin(root + "data/" + std::to_string(i));
    produce(i, [&](const void* data, size_t bytes) {
      zip.write(data, bytes);
      written += bytes;
    });
    zip.end();
    if (written != expected) throw Error(ErrorKind::internal, fmt::format("{}: {} bytes written for {}", file, written, entries[i].name));
  }
  put("version", "3\n");
  zip.finish();
}

}  // namespace loraine
