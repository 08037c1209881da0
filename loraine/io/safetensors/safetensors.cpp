// The safetensors reader: a mapped file with a checked header.
#include "loraine/io/safetensors/safetensors.h"

#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/safetensors/safetensors_header.h"
#include "loraine/io/tensors/read_elements.h"

namespace loraine {
namespace {

// How a stored type shows as a Dtype. Types without one of their own show as the type of the same width; `plain` is false for them.
Dtype shown_dtype(const std::string& stored, bool& plain) {
  plain = true;
  for (int i = 0; i <= static_cast<int>(Dtype::Bool); ++i)
    if (stored == name_of(static_cast<Dtype>(i))) return static_cast<Dtype>(i);
  plain = false;
  switch (safetensors_bits(stored)) {
    case 64: return Dtype::I64;
    case 32: return Dtype::I32;
    case 16: return Dtype::I16;
    default: return Dtype::U8;
  }
}

class SafetensorsSource : public TensorSource {
 public:
  explicit SafetensorsSource(const std::string& path) : file_(path) {
    SafetensorsHeader header = parse_safetensors_header(path, file_.data(), file_.size());
    for (SafetensorsTensor& tensor : header.tensors) {
      bool plain = true;
      Dtype dtype = shown_dtype(tensor.dtype, plain);
      places_.push_back({header.data_start + tensor.begin, plain});
      infos_.push_back({std::move(tensor.name), dtype, std::move(tensor.shape), std::move(tensor.dtype), path});
    }
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }

  Tensor map(const TensorInfo& info) const override {
    const Place& place = place_of(info);
    // A file whose header length is no multiple of 8 can leave the data unaligned: then read() is the way.
    const unsigned char* at = file_.data() + place.offset;
    bool usable = place.plain && reinterpret_cast<uintptr_t>(at) % size_of(info.dtype) == 0;
    return Tensor(usable ? const_cast<unsigned char*>(at) : nullptr, info.dtype, std::span<const int64_t>(info.shape));
  }
  Tensor map_packed(const TensorInfo& info) const override {  // F8_E4M3, F8_E8M0, …
    const Place& place = place_of(info);
    if (place.plain || safetensors_bits(info.stored_as) != 8) return {};
    return Tensor(const_cast<unsigned char*>(file_.data()) + place.offset, Dtype::U8, std::span<const int64_t>(info.shape));
  }

  void read(const TensorInfo& info, const Tensor& out) const override {
    const Place& place = place_of(info);
    if (!place.plain)
      throw Error(ErrorKind::bad_data, info.file + ": " + info.name + " is stored as " + info.stored_as + ", which is not read",
                  "use a copy of the model in BF16, F16 or F32");
    read_plain(info, file_.data() + place.offset, out);
  }

 private:
  struct Place {
    uint64_t offset;
    bool plain;
  };
  const Place& place_of(const TensorInfo& info) const {
    const TensorInfo* known = find(info.name);
    if (!known) throw Error(ErrorKind::internal, info.name + ": not a tensor of this source");
    return places_[static_cast<size_t>(known - infos_.data())];
  }
  MappedFile file_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
};

}  // namespace

std::unique_ptr<TensorSource> open_safetensors(const std::string& file) { return std::make_unique<SafetensorsSource>(file); }

}  // namespace loraine
