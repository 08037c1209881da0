// The tensors of a GGUF file under Hugging Face's names, shapes and row order; packed ones read as F32 or as they are.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/core/signals.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/io/gguf/gguf_names.h"
#include "loraine/io/tensors/read_elements.h"

namespace loraine {
namespace {

struct Place {
  uint64_t offset = 0;
  Dtype stored = Dtype::F32;
  int64_t heads = 0;  // rows interleaved per head; 0 = none
};

class GgufSource : public TensorSource {
 public:
  explicit GgufSource(std::shared_ptr<const GgufFile> file) : file_(std::move(file)) {
    std::string architecture = gguf_architecture(*file_);
    std::vector<std::pair<TensorInfo, Place>> all;
    std::vector<std::string> problems;
    for (const GgufTensor& tensor : file_->tensors) {
      const GgmlType* type = ggml_type(tensor.type);
      auto name = hugging_face_name(tensor.name);
      if (!name) problems.push_back("tensor " + in_quotes(tensor.name) + " is not one of the architecture " + architecture);
      else if (!type->weight)
        problems.push_back("tensor " + in_quotes(tensor.name) + " is stored as " + type->name + ", which is not read");
      if (!name || name->empty() || !type->weight) continue;
      int64_t heads = static_cast<int64_t>(permuted_heads(*file_, architecture, tensor.name));
      if (heads > 0 && (tensor.shape[0] % heads != 0 || tensor.shape[0] / heads % 2 != 0))
        problems.push_back(fmt::format("tensor {} has {} rows, expected an even number for each of {} heads", in_quotes(tensor.name),
                                       tensor.shape[0], heads));
      const Dtype stored = *type->weight;
      if (heads > 0 && tensor.shape.size() == 1 && is_packed(stored))
        problems.push_back("tensor " + in_quotes(tensor.name) + " is a quantised bias, which is not read");
      TensorInfo info{*name, is_packed(stored) ? Dtype::F32 : stored, tensor.shape, type->name, file_->path};
      if (is_packed(stored)) info.packed = stored;
      all.push_back({std::move(info), {tensor.offset, stored, heads}});
    }
    if (!problems.empty()) {
      size_t count = problems.size();
      if (count > 5) problems.resize(5);
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} tensors cannot be read: {}", file_->path, count, fmt::join(problems, "; ")),
                  "give the model as a Hugging Face folder, or as Q8_0, Q6_K, Q5_K, Q4_K, Q4_0, F16 or BF16");
    }
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first.name < b.first.name; });
    for (auto& [info, place] : all) {
      infos_.push_back(std::move(info));
      places_.push_back(place);
    }
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }

  Tensor map(const TensorInfo& info) const override { return is_packed(place_of(info).stored) ? Tensor() : view(info); }
  Tensor map_packed(const TensorInfo& info) const override { return is_packed(place_of(info).stored) ? view(info) : Tensor(); }

  void read(const TensorInfo& info, const Tensor& out) const override {
    const Place& place = place_of(info);
    const unsigned char* source = file_->file.data() + place.offset;
    check_destination(info, out);
    if (out.dtype > Dtype::BF16 && out.dtype != place.stored)
      throw Error(ErrorKind::internal, info.name + ": read into " + name_of(out.dtype));
    if (!is_packed(place.stored) && place.heads == 0) return read_plain(info, source, out);
    // A row of a rank-1 tensor is one element; only plain types get here with heads and rank 1, as blocks would span rows.
    const bool flat = info.shape.size() == 1 && is_packed(place.stored);
    const int64_t rows = flat ? 1 : info.shape[0], cols = element_count(info) / rows, row_bytes = bytes_of(place.stored, cols);
    const int64_t head_rows = place.heads ? rows / place.heads : 0;
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 18)
    for (int64_t row = 0; row < rows; ++row) {
      have_signal_stack();
      int64_t stored = row;
      if (place.heads) {  // row (half, i) of a head is stored at 2 i + half
        int64_t head = row / head_rows, in_head = row % head_rows, half = in_head / (head_rows / 2), i = in_head % (head_rows / 2);
        stored = head * head_rows + 2 * i + half;
      }
      const unsigned char* from = source + stored * row_bytes;
      if (out.dtype == place.stored) std::memcpy(out.row_range(row, 1).data, from, static_cast<size_t>(row_bytes));
      else read_row(place.stored, from, out, row * cols, cols);
    }
  }

 private:
  // The mapped bytes when their rows lie as Hugging Face's do.
  Tensor view(const TensorInfo& info) const {
    const Place& place = place_of(info);
    const unsigned char* at = file_->file.data() + place.offset;
    bool usable = place.heads == 0 && (is_packed(place.stored) || reinterpret_cast<uintptr_t>(at) % size_of(place.stored) == 0);
    return Tensor(usable ? const_cast<unsigned char*>(at) : nullptr, place.stored, std::span<const int64_t>(info.shape));
  }
  // `count` elements from `source` to elements [first, …) of out, by pieces that are a multiple of every block.
  static void read_row(Dtype stored, const unsigned char* source, const Tensor& out, int64_t first, int64_t count) {
    constexpr int64_t kPiece = 1024;
    float values[kPiece];
    for (int64_t done = 0; done < count; done += kPiece) {
      const int64_t n = std::min(kPiece, count - done);
      const unsigned char* from = source + bytes_of(stored, done);
      if (is_packed(stored)) {
        unpack(values, from, stored, n);
      } else {
        alignas(8) unsigned char staged[kPiece * 4];
        std::memcpy(staged, from, static_cast<size_t>(bytes_of(stored, n)));
        convert(values, Dtype::F32, staged, stored, n);
      }
      store_f32(out, first + done, values, n);
    }
  }
  const Place& place_of(const TensorInfo& info) const {
    const TensorInfo* known = find(info.name);
    if (!known) throw Error(ErrorKind::internal, info.name + ": not a tensor of this source");
    return places_[static_cast<size_t>(known - infos_.data())];
  }
  std::shared_ptr<const GgufFile> file_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
};

}  // namespace

std::unique_ptr<TensorSource> open_gguf(std::shared_ptr<const GgufFile> file) { return std::make_unique<GgufSource>(std::move(file)); }
std::unique_ptr<TensorSource> open_gguf(const std::string& path) { return open_gguf(std::make_shared<const GgufFile>(path)); }

}  // namespace loraine
