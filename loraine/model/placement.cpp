// What a tensor must be, and where it goes: mapped in place where its type allows.
#include "loraine/model/placement.h"

#include <fmt/format.h>

#include <algorithm>
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
  if (const Tensor mapped = source_.map_packed(info); mapped.data) return mapped;
  if (const Tensor taken = source_.take_packed(info, owned); taken.data) return taken;
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

namespace {

// Matrix e of a stack.
Tensor matrix_of(const Tensor& stack, int64_t e) {
  Tensor one = stack.row_range(e, 1);
  one.rank = 2;
  one.shape[0] = stack.shape[1], one.shape[1] = stack.shape[2], one.shape[2] = 1;
  one.row_stride = stack.shape[2];
  return one;
}

ExpertStack& add_stack(ExpertWeights& all, const std::string& name, int64_t first, int64_t columns) {
  ExpertStack& out = all.stacks.emplace_back();
  out.first = first;
  out.columns = columns;
  for (int64_t e = 0; e < all.experts; ++e) {
    WeightPart& part = out.parts.emplace_back();
    part.name = fmt::format("{}.{}.{}", all.module, e, name);
    part.transposed = all.transposed;
  }
  return out;
}

}  // namespace

// Where the file holds the parameter in pieces, or the other way, and they can stay as they are, they are taken; it is not transposed here
// then.
bool Placement::expert_pieces(ExpertWeights& all, const TensorInfo& info) {
  const std::vector<StackPiece> pieces = source_.map_pieces(info);
  const auto stays = [&](const StackPiece& piece) {
    const Dtype dtype = piece.rows.dtype;
    return is_packed(dtype) || (!options_.quantisation && dtype == (options_.bf16 ? Dtype::BF16 : dtype) &&
                                reinterpret_cast<uintptr_t>(piece.rows.data) % size_of(dtype) == 0);
  };
  if (pieces.empty() || !std::ranges::all_of(pieces, stays)) return false;
  for (const StackPiece& piece : pieces) {
    ExpertStack& to = add_stack(all, all.parameter, piece.first, piece.rows.shape[1]);
    to.stored = info.name;
    to.step = piece.step;
    for (int64_t e = 0; e < all.experts; ++e) to.parts[static_cast<size_t>(e)].weight = matrix_of(piece.rows, e);
  }
  all.transposed = false;
  return true;
}

// The matrices of one tensor [E, …], where they lie or each in memory of its own.
void Placement::expert_matrices(ExpertStack& stack, const TensorInfo& info, const ExpertWeights& all) {
  const int64_t rows = info.shape[1], cols = info.shape[2];
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
    part.weight = matrix_of(whole, e);
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
  all.pieces = pieces;
  const auto check_stack = [&](const std::string& stored, int64_t columns, bool transposed) {
    const std::vector<int64_t> shape =
        transposed ? std::vector<int64_t>{all.experts, all.in, columns} : std::vector<int64_t>{all.experts, columns, all.in};
    return check(stored, shape, "experts, and their sizes");
  };
  const auto in_one = [&](const std::string& stored) {
    const TensorInfo* info = check_stack(stored, all.out, all.transposed);
    if (!info) return;
    const bool lies_whole = !all.transposed && (info->packed ? source_.map_packed(*info) : source_.map(*info)).data;
    if (!lies_whole && expert_pieces(all, *info)) return;
    ExpertStack& to = add_stack(all, all.parameter, 0, all.out);
    to.stored = stored;
    expert_matrices(to, *info, all);
  };
  const std::string fused = config_.names.in_files(all.name());
  for (const std::string& stored : {fused, fused + ".weight"})
    if (const TensorInfo* info = source_.find(stored); info && info->shape.size() == 3) {
      // Files of Qwen 3 VL are found in both orders, which transformers tells apart by their shapes too.
      if (all.in != all.out && info->shape[1] == (all.transposed ? all.out : all.in) &&
          info->shape[2] == (all.transposed ? all.in : all.out))
        all.transposed = !all.transposed;
      return in_one(stored);
    }
  const bool in_pieces = source_.find(config_.names.in_files(all.module + ".0." + pieces[0]) + ".weight") ||
                         source_.find(config_.names.in_files(all.module + "." + pieces[0]) + ".weight");
  if (asks_whole && !in_pieces) return in_one(fused);
  if (const std::string bias = config_.names.in_files(all.module + ".0." + pieces[0]) + ".bias"; source_.find(bias))
    problem(bias + ": experts with biases of their own are not built for this model type, and transformers 5 passes them by");
  all.transposed = false;
  const int64_t columns = all.out / static_cast<int64_t>(pieces.size());
  int64_t first = 0;
  for (const std::string& piece : pieces) {
    ExpertStack& to = add_stack(all, piece, first, columns);
    first += columns;
    const std::string together = config_.names.in_files(all.module + "." + piece) + ".weight";
    if (const TensorInfo* info = source_.find(together); info && info->shape.size() == 3) {
      to.stored = together;
      if (const TensorInfo* known = check_stack(together, columns, false)) expert_matrices(to, *known, all);
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
