// What a tensor must be, and where it goes: mapped in place where its type allows.
#include "loraine/model/placement.h"

#include <fmt/format.h>

#include <cstring>

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

void Placement::table(Table& out, const std::string& name, int64_t rows, int64_t cols, const char* meaning) {
  out.name = name + ".weight";
  out.stored = config_.names.in_files(name) + ".weight";
  out.value = matrix(out.stored, rows, cols, meaning, out.memory);
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
  site.weight.whole = whole;
  if (bias) {
    if (const TensorInfo* info = check(part.stored + ".bias", {out}, "one bias per output")) {
      part.owned_bias = Buffer(static_cast<size_t>(out) * sizeof(float));
      source_.read(*info, Tensor(part.owned_bias.data(), Dtype::F32, {out}));
      part.bias = static_cast<const float*>(part.owned_bias.data());
    }
  }
  site.weight.parts.push_back(std::move(part));
}

// The matrices of one tensor [E, …], where they lie or each in memory of its own.
void Placement::expert_matrices(ExpertStack& stack, const TensorInfo& info, const ExpertWeights& all) {
  const int64_t rows = info.shape[1], cols = info.shape[2];
  const auto cut = [&](const Tensor& whole, int64_t e) {
    Tensor one = whole.row_range(e, 1);
    one.rank = 2;
    one.shape[0] = rows, one.shape[1] = cols, one.shape[2] = 1;
    one.row_stride = cols;
    return one;
  };
  const Dtype dtype = info.packed ? *info.packed : options_.bf16 ? Dtype::BF16 : info.dtype;
  const Tensor mapped = info.packed ? source_.map_packed(info) : source_.map(info);
  const bool in_place =
      mapped.data && mapped.dtype == dtype && (info.packed || reinterpret_cast<uintptr_t>(mapped.data) % size_of(dtype) == 0);
  Buffer memory;
  Tensor whole = mapped;
  if (!in_place) {
    memory = Buffer(static_cast<size_t>(bytes_of(dtype, all.experts * rows * cols)));
    whole = Tensor(memory.data(), dtype, info.shape);
    source_.read(info, whole);
    if (mapped.data) release_pages(mapped.data, mapped.bytes());
  }
  for (int64_t e = 0; e < all.experts; ++e) {
    WeightPart& part = stack.parts[static_cast<size_t>(e)];
    part.weight = cut(whole, e);
    if (options_.quantisation && !options_.whole_experts && !is_packed(dtype)) {
      const Tensor before = part.weight;
      quantise_part(part, *options_.quantisation, dtype);
      if (in_place) release_pages(before.data, before.bytes());
    } else if (!in_place) {
      part.owned = Buffer(part.weight.bytes());
      std::memcpy(part.owned.data(), part.weight.data, part.weight.bytes());
      part.weight.data = part.owned.data();
    }
  }
}

void Placement::experts(ExpertWeights& all, const std::vector<std::string>& pieces, bool asks_whole) {
  const auto stack = [&](const std::string& name, int64_t first, int64_t columns) -> ExpertStack& {
    ExpertStack& out = all.stacks.emplace_back();
    out.first = first;
    out.columns = columns;
    for (int64_t e = 0; e < all.experts; ++e) {
      WeightPart& part = out.parts.emplace_back();
      part.name = fmt::format("{}.{}.{}", all.module, e, name);
      part.transposed = all.transposed;
    }
    return out;
  };
  const auto whole = [&](const std::string& stored, ExpertStack& to, int64_t columns, bool transposed) {
    const std::vector<int64_t> shape =
        transposed ? std::vector<int64_t>{all.experts, all.in, columns} : std::vector<int64_t>{all.experts, columns, all.in};
    to.stored = stored;
    if (const TensorInfo* info = check(stored, shape, "experts, and their sizes")) expert_matrices(to, *info, all);
  };
  const std::string fused = config_.names.in_files(all.name());
  for (const std::string& stored : {fused, fused + ".weight"})
    if (const TensorInfo* info = source_.find(stored); info && info->shape.size() == 3) {
      // Files of Qwen 3 VL are found in both orders, which transformers tells apart by their shapes too.
      if (all.in != all.out && info->shape[1] == (all.transposed ? all.out : all.in) &&
          info->shape[2] == (all.transposed ? all.in : all.out))
        all.transposed = !all.transposed;
      return whole(stored, stack(all.parameter, 0, all.out), all.out, all.transposed);
    }
  const bool in_pieces = source_.find(config_.names.in_files(all.module + ".0." + pieces[0]) + ".weight") ||
                         source_.find(config_.names.in_files(all.module + "." + pieces[0]) + ".weight");
  if (asks_whole && !in_pieces) return whole(fused, stack(all.parameter, 0, all.out), all.out, all.transposed);
  all.transposed = false;
  const int64_t columns = all.out / static_cast<int64_t>(pieces.size());
  int64_t first = 0;
  for (const std::string& piece : pieces) {
    ExpertStack& to = stack(piece, first, columns);
    first += columns;
    const std::string together = config_.names.in_files(all.module + "." + piece) + ".weight";
    if (const TensorInfo* info = source_.find(together); info && info->shape.size() == 3) {
      whole(together, to, columns, false);
      continue;
    }
    for (int64_t e = 0; e < all.experts; ++e) {
      WeightPart& part = to.parts[static_cast<size_t>(e)];
      part.stored = config_.names.in_files(part.name);
      part.weight = matrix(part.stored + ".weight", columns, all.in, "width of an expert, hidden_size", part.owned);
      if (options_.quantisation && !options_.whole_experts) to_codes(part);
    }
  }
}

}  // namespace loraine
