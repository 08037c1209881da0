// What a tensor must be, and where it goes: mapped in place where its type allows.
#include "loraine/model/placement.h"

#include <fmt/format.h>

#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"

namespace loraine {

void Placement::problem(const std::string& text) {
  if (++count_ <= 5) problems_ += "\n  " + text;
}

void Placement::finish(const std::string& path) const {
  if (count_)
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} tensors disagree with config.json:{}", path, count_, problems_),
                "is config.json from another model?");
}

const TensorInfo* Placement::check(const std::string& stored, const std::vector<int64_t>& shape, const char* meaning) {
  if (wanted_) {
    wanted_->push_back({stored, Dtype::F32, shape, "F32", ""});
    return nullptr;
  }
  const TensorInfo* info = source_.find(stored);
  if (!info) {
    const bool head = stored == config_.names.in_files(config_.names.head) + ".weight";
    problem(stored + (head ? ": missing, and tie_word_embeddings is not true" : ": missing"));
    return nullptr;
  }
  if (info->shape != shape) {
    problem(fmt::format("{}: file has {}, config implies {} ({})", stored, Tensor(nullptr, Dtype::F32, info->shape).shape_text(),
                        Tensor(nullptr, Dtype::F32, shape).shape_text(), meaning));
    return nullptr;
  }
  if (info->dtype != Dtype::F32 && info->dtype != Dtype::F16 && info->dtype != Dtype::BF16) {
    problem(fmt::format("{}: stored as {}, expected F32, F16 or BF16", stored, info->stored_as));
    return nullptr;
  }
  return info;
}

// Stays packed, whatever type products run in: where it lies, or copied when its rows lie in another order.
Tensor Placement::place_packed(const TensorInfo& info, Buffer& owned) const {
  Tensor mapped = source_.map_packed(info);
  if (mapped.data) return mapped;
  owned = Buffer(static_cast<size_t>(bytes_of(*info.packed, info.shape[0] * info.shape[1])));
  Tensor t(owned.data(), *info.packed, info.shape);
  source_.read(info, t);
  return t;
}

Tensor Placement::matrix(const std::string& stored, int64_t rows, int64_t cols, const char* meaning, Buffer& owned) {
  const TensorInfo* info = check(stored, {rows, cols}, meaning);
  if (!info) return {};
  if (info->packed) return place_packed(*info, owned);
  const Tensor mapped = source_.map(*info);
  const Dtype dtype = options_.bf16 ? Dtype::BF16 : info->dtype;
  if (mapped.data && dtype == info->dtype && reinterpret_cast<uintptr_t>(mapped.data) % size_of(dtype) == 0) return mapped;
  owned = Buffer(static_cast<size_t>(rows * cols) * size_of(dtype));
  Tensor t(owned.data(), dtype, {rows, cols});
  source_.read(*info, t);
  if (mapped.data) release_pages(mapped.data, mapped.bytes());  // copied
  return t;
}

void Placement::vector(Vector& out, const std::string& name, const std::vector<int64_t>& shape) {
  out.name = name;
  out.stored = config_.names.in_files(name);
  const TensorInfo* info = check(out.stored, shape, "a vector of that size");
  if (!info) return;
  const Tensor all(nullptr, Dtype::F32, shape);
  out.values.resize(static_cast<size_t>(all.numel()));
  source_.read(*info, Tensor(out.values.data(), Dtype::F32, shape));
}

// A placed matrix becomes codes; what it was read from leaves memory.
void Placement::to_codes(WeightPart& part) const {
  if (!part.weight.data || is_packed(part.weight.dtype)) return;
  const Tensor before = part.weight;
  const bool mapped = part.owned.bytes() == 0;
  quantise_part(part, *options_.quantisation, before.dtype);
  if (mapped) release_pages(before.data, before.bytes());
}

void Placement::part(Site& site, const std::string& path, int64_t out, int64_t in, bool bias, const char* meaning, bool whole) {
  WeightPart part;
  part.name = path;
  part.stored = config_.names.in_files(path);
  part.weight = matrix(part.stored + ".weight", out, in, meaning, part.owned);
  if (options_.quantisation && !whole) to_codes(part);
  if (bias) {
    if (const TensorInfo* info = check(part.stored + ".bias", {out}, "one bias per output")) {
      part.owned_bias = Buffer(static_cast<size_t>(out) * sizeof(float));
      source_.read(*info, Tensor(part.owned_bias.data(), Dtype::F32, {out}));
      part.bias = static_cast<const float*>(part.owned_bias.data());
    }
  }
  site.weight.parts.push_back(std::move(part));
}

}  // namespace loraine
