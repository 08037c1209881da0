// The tensors of a GGUF file under Hugging Face's names, shapes and row order; quantised ones read as F32.
#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "loraine/core/error.h"
#include "loraine/io/gguf.h"
#include "loraine/io/gguf_names.h"
#include "loraine/io/json_text.h"
#include "loraine/io/read_elements.h"

namespace loraine {
namespace {

struct Place {
  uint64_t offset = 0;
  const GgmlType* type = nullptr;
  int64_t heads = 0;  // rows interleaved per head; 0 = none
};

Dtype shown_dtype(const GgmlType& type) { return type.number == 1 ? Dtype::F16 : type.number == 30 ? Dtype::BF16 : Dtype::F32; }

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
      else if (!type->readable)
        problems.push_back("tensor " + in_quotes(tensor.name) + " is stored as " + type->name + ", which is not read");
      if (!name || name->empty() || !type->readable) continue;
      int64_t heads = static_cast<int64_t>(permuted_heads(*file_, architecture, tensor.name));
      if (heads > 0 && (tensor.shape[0] % heads != 0 || tensor.shape[0] / heads % 2 != 0))
        problems.push_back(fmt::format("tensor {} has {} rows, expected an even number for each of {} heads", in_quotes(tensor.name),
                                       tensor.shape[0], heads));
      if (heads > 0 && tensor.shape.size() == 1 && type->block > 1)
        problems.push_back("tensor " + in_quotes(tensor.name) + " is a quantised bias, which is not read");
      all.push_back({{*name, shown_dtype(*type), tensor.shape, type->name, file_->path}, {tensor.offset, type, heads}});
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

  Tensor map(const TensorInfo& info) const override {
    const Place& place = place_of(info);
    const unsigned char* at = file_->file.data() + place.offset;
    bool plain = place.type->block == 1 && place.heads == 0 && reinterpret_cast<uintptr_t>(at) % size_of(info.dtype) == 0;
    return Tensor(plain ? const_cast<unsigned char*>(at) : nullptr, info.dtype, std::span<const int64_t>(info.shape));
  }

  void read(const TensorInfo& info, const Tensor& out) const override {
    const Place& place = place_of(info);
    const unsigned char* source = file_->file.data() + place.offset;
    check_destination(info, out);
    if (out.dtype > Dtype::BF16) throw Error(ErrorKind::internal, info.name + ": read into " + name_of(out.dtype));
    if (place.type->block == 1 && place.heads == 0) return read_plain(info, source, out);
    const int64_t rows = info.shape[0], cols = element_count(info) / rows;
    // A row of a rank-1 tensor is one element; only plain types get here with heads and rank 1, as blocks would span rows.
    if (info.shape.size() == 1 && place.type->block > 1) return read_row(place, source, out, 0, 0, element_count(info));
    const int64_t row_bytes = cols / place.type->block * place.type->block_bytes;
    const int64_t head_rows = place.heads ? rows / place.heads : 0;
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 18)
    for (int64_t row = 0; row < rows; ++row) {
      int64_t stored = row;
      if (place.heads) {  // row (half, i) of a head is stored at 2 i + half
        int64_t head = row / head_rows, in_head = row % head_rows, half = in_head / (head_rows / 2), i = in_head % (head_rows / 2);
        stored = head * head_rows + 2 * i + half;
      }
      read_row(place, source + stored * row_bytes, out, row * cols, 0, cols);
    }
  }

 private:
  // `count` elements from `source` to elements [first, …) of out, by pieces that are a multiple of every block.
  static void read_row(const Place& place, const unsigned char* source, const Tensor& out, int64_t first, int64_t done, int64_t count) {
    float values[1024];
    for (; done < count; done += 1024) {
      int64_t n = std::min<int64_t>(1024, count - done);
      dequantize(place.type->number, source + done / place.type->block * place.type->block_bytes, n, values);
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
