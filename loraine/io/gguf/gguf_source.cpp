// The tensors of a GGUF file under Hugging Face's names, shapes and row order; packed ones read as F32 or as they are.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <functional>
#include <map>

#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/core/parallel.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/io/gguf/gguf_names.h"
#include "loraine/io/gguf/gguf_outputs.h"
#include "loraine/io/tensors/read_elements.h"

namespace loraine {
namespace {

// Rows of the file, one after the other.
struct Run {
  uint64_t offset = 0;
  int64_t rows = 0;
  Dtype stored = Dtype::F32;
};

// Matrices [rows, cols] of a stack in the file, whose rows are outputs first, first + step, … of the stack at Hugging Face.
struct StackRun {
  Run run;
  int64_t rows = 0, cols = 0, first = 0, step = 1;
};

struct Place {
  std::vector<Run> runs;       // their rows, in order, are the tensor's
  std::vector<int64_t> order;  // of which row of the runs a row is; empty: of its own
  int64_t cols = 1;
  float added = 0;
  bool log_negative = false;
  std::vector<float> made = {};  // values that the metadata holds; then there are no runs
  // Or each of so many matrices is put together from the file's bytes as F32.
  std::function<void(const unsigned char* file, int64_t index, float* matrix)> make = {};
  int64_t matrices = 0;
  std::vector<StackRun> pieces = {};  // of a stack that is no more than transposed or put together

  bool one_type() const {
    return std::all_of(runs.begin(), runs.end(), [&](const Run& run) { return run.stored == runs[0].stored; });
  }
  bool changed() const { return added != 0 || log_negative; }
};

// source: of any alignment.
void unpack_to_f32(float* out, const unsigned char* source, Dtype stored, int64_t count) {
  if (is_packed(stored)) return unpack(out, source, stored, count);
  constexpr int64_t kPiece = 1024;
  alignas(8) unsigned char staged[kPiece * 4];
  for (int64_t done = 0; done < count; done += kPiece) {
    const int64_t n = std::min(kPiece, count - done);
    std::memcpy(staged, source + bytes_of(stored, done), static_cast<size_t>(bytes_of(stored, n)));
    convert(out + done, Dtype::F32, staged, stored, n);
  }
}

std::string replaced(const std::string& text, std::string_view what, const std::string& with) {
  const size_t at = text.find(what);
  return at == std::string::npos ? text : text.substr(0, at) + with + text.substr(at + what.size());
}

std::vector<std::string> split(const std::string& names) {
  std::vector<std::string> all;
  for (size_t begin = 0; begin <= names.size();) {
    const size_t end = std::min(names.find('|', begin), names.size());
    all.push_back(names.substr(begin, end - begin));
    begin = end + 1;
  }
  return all;
}

class GgufSource : public TensorSource {
 public:
  explicit GgufSource(std::shared_ptr<const GgufFile> file) : file_(std::move(file)), architecture_(gguf_architecture(*file_)) {
    for (const GgufTensor& tensor : file_->tensors) add(tensor);
    for (auto& [name, halves] : joined_) {
      try {
        join(name, halves);
      } catch (const Error& error) { problems_.push_back(error.what()); }
    }
    add_made();
    if (!problems_.empty()) {
      size_t count = problems_.size();
      if (count > 5) problems_.resize(5);
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} tensors cannot be read: {}", file_->path, count, fmt::join(problems_, "; ")),
                  "give the model as a Hugging Face folder, or as another of the usual types: Q8_0, Q6_K, Q4_K, F16, BF16");
    }
    std::sort(all_.begin(), all_.end(), [](const auto& a, const auto& b) { return a.first.name < b.first.name; });
    for (auto& [info, place] : all_) {
      if (!infos_.empty() && infos_.back().name == info.name)
        throw Error(ErrorKind::bad_data, fmt::format("{}: two tensors are both {}", file_->path, in_quotes(info.name)));
      infos_.push_back(std::move(info));
      places_.push_back(std::move(place));
    }
    all_.clear();
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }

  Tensor map(const TensorInfo& info) const override {
    const Place& place = place_of(info);
    if (!place.made.empty()) return Tensor(const_cast<float*>(place.made.data()), Dtype::F32, std::span<const int64_t>(info.shape));
    return info.packed ? Tensor() : view(info);
  }
  Tensor map_packed(const TensorInfo& info) const override { return info.packed ? view(info) : Tensor(); }
  std::vector<StackPiece> map_pieces(const TensorInfo& info) const override {
    std::vector<StackPiece> all;
    if (info.shape.size() != 3) return all;
    for (const StackRun& piece : place_of(info).pieces) {
      unsigned char* at = const_cast<unsigned char*>(file_->file.data()) + piece.run.offset;
      all.push_back({Tensor(at, piece.run.stored, {info.shape[0], piece.rows, piece.cols}), piece.first, piece.step});
    }
    return all;
  }

  void read(const TensorInfo& info, const Tensor& out) const override {
    const Place& place = place_of(info);
    check_destination(info, out);
    if (!place.made.empty()) return read_plain(info, reinterpret_cast<const unsigned char*>(place.made.data()), out);
    if (out.dtype > Dtype::BF16 && out.dtype != info.packed)
      throw Error(ErrorKind::internal, info.name + ": read into " + name_of(out.dtype));
    if (place.make) {
      const int64_t size = element_count(info) / place.matrices;
      parallel_for(place.matrices, [&](int64_t index) {
        std::vector<float> matrix(static_cast<size_t>(size));
        place.make(file_->file.data(), index, matrix.data());
        store_f32(out, index * size, matrix.data(), size);
      });
      return;
    }
    const Run& first = place.runs[0];
    if (place.runs.size() == 1 && !is_packed(first.stored) && place.order.empty() && !place.changed())
      return read_plain(info, file_->file.data() + first.offset, out);
    const int64_t rows = element_count(info) / place.cols;
    std::vector<int64_t> begins;  // the first row of each run
    for (int64_t begin = 0; const Run& run : place.runs) begins.push_back(begin), begin += run.rows;
    const auto read = [&](int64_t row) {
      const int64_t stored = place.order.empty() ? row : place.order[static_cast<size_t>(row)];
      const size_t at = static_cast<size_t>(std::upper_bound(begins.begin(), begins.end(), stored) - begins.begin()) - 1;
      const Run& run = place.runs[at];
      const unsigned char* from = file_->file.data() + run.offset + bytes_of(run.stored, (stored - begins[at]) * place.cols);
      if (out.dtype == run.stored && !place.changed() && out.contiguous())
        std::memcpy(static_cast<char*>(out.data) + bytes_of(run.stored, row * place.cols), from,
                    static_cast<size_t>(bytes_of(run.stored, place.cols)));
      else read_row(place, run.stored, from, out, row * place.cols);
    };
    parallel_for(rows, read, (1 << 18) / place.cols + 1);
  }

 private:
  using Placed = std::pair<TensorInfo, Place>;

  void add(const GgufTensor& tensor) {
    const GgmlType* type = ggml_type(tensor.type);
    const auto target = gguf_target(architecture_, tensor.name);
    if (!target)
      return problems_.push_back("tensor " + in_quotes(tensor.name) + " is not one of the architecture " + std::string(architecture_.name));
    if (!type->weight)
      return problems_.push_back("tensor " + in_quotes(tensor.name) + " is stored as " + type->name + ", which is not read");
    if (target->form == GgufForm::left_out) return;
    Placed placed{{target->name, Dtype::F32, shape_of(tensor, target->form), type->name, file_->path}, {}};
    Place& place = placed.second;
    // A row of a tensor of rank 1 is an element, but for packed types, whose blocks would span rows.
    const int64_t count = element_count(placed.first);
    place.cols = tensor.shape.size() > 1 ? tensor.shape.back() : is_packed(*type->weight) ? count : 1;
    place.runs = {{tensor.offset, count / place.cols, *type->weight}};
    place.added = target->minus_one ? -1 : 0;
    place.log_negative =
        target->form == GgufForm::log_negative || target->form == GgufForm::log_negatives || target->form == GgufForm::log_negative_apart;
    try {
      switch (target->form) {
        case GgufForm::first_half:
        case GgufForm::even_columns:
        case GgufForm::left_columns:
        case GgufForm::keys_of_heads:
        case GgufForm::grouped_qkv: return hold(std::move(placed), target->form, 0);
        case GgufForm::second_half:
        case GgufForm::odd_columns:
        case GgufForm::right_columns:
        case GgufForm::values_of_heads:
        case GgufForm::grouped_z: return hold(std::move(placed), target->form, 1);
        default: break;
      }
      for (Placed& part : parts_of(std::move(placed), *target, tensor)) finish(std::move(part));
    } catch (const Error& error) { problems_.push_back(error.what()); }
  }

  static std::vector<int64_t> shape_of(const GgufTensor& tensor, GgufForm form) {
    std::vector<int64_t> shape = tensor.shape;
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    if ((form == GgufForm::channel || form == GgufForm::channel_value_heads) && shape.size() >= 2 && shape.back() > 0)
      return {count / shape.back(), 1, shape.back()};
    if (form == GgufForm::one_row && shape.size() == 1) shape.insert(shape.begin(), 1);
    if (form == GgufForm::flat || form == GgufForm::log_negative) return {count};
    if (form == GgufForm::log_negative_apart) return {1, 1, count, 1};
    return shape;
  }

  [[noreturn]] static void refuse(const GgufTensor& tensor, const std::string& what) {
    throw Error(ErrorKind::bad_data, "tensor " + in_quotes(tensor.name) + " " + what);
  }

  int64_t heads(bool keys) const {
    const uint64_t all = required_gguf_size(*file_, "attention.head_count");
    const uint64_t of_keys = gguf_size(*file_, "attention.head_count_kv").value_or(all);
    if (of_keys == 0) throw Error(ErrorKind::bad_data, std::string(architecture_.name) + ".attention.head_count_kv is 0");
    return static_cast<int64_t>(keys ? of_keys : all);
  }

  void check_heads(const GgufTensor& tensor, int64_t rows, int64_t count) const {
    if (rows % count != 0 || rows / count % 2 != 0)
      refuse(tensor, fmt::format("has {} rows, expected an even number for each of {} heads", rows, count));
    if (tensor.shape.size() == 1 && is_packed(*ggml_type(tensor.type)->weight)) refuse(tensor, "is a quantised bias, which is not read");
  }

  // The tensors at Hugging Face that one of the file holds.
  std::vector<Placed> parts_of(Placed placed, const GgufTarget& target, const GgufTensor& tensor) const {
    auto& [info, place] = placed;
    const int64_t rows = place.runs[0].rows;
    if (info.name.find("{}") != std::string::npos) return by_index(placed, target.form, tensor);
    if (target.form == GgufForm::thirds) return queries_keys_values(placed, target.pairs, tensor);
    if (target.form == GgufForm::transposed) transpose(placed, tensor);
    if (target.form == GgufForm::value_heads || target.form == GgufForm::log_negative) order_value_heads(place.order, 0, rows, tensor);
    if (target.form == GgufForm::keys_value_heads || target.form == GgufForm::channel_value_heads) {
      const DeltaSizes sizes = delta_sizes(tensor);
      const int64_t keys = 2 * sizes.key_heads * sizes.key_dim;
      if (rows <= keys) refuse(tensor, fmt::format("has {} rows, expected more than the {} of queries and keys", rows, keys));
      for (int64_t row = 0; row < keys; ++row) place.order.push_back(row);
      order_value_heads(place.order, keys, rows - keys, tensor);
    }
    if (target.form == GgufForm::value_head_columns) value_columns(placed, tensor);
    if (target.form == GgufForm::by_head) {
      check_heads(tensor, rows / 3, heads(false));
      if (rows % 3 != 0) refuse(tensor, fmt::format("has {} rows, expected as many for q, k and v", rows));
      order_by_head(place.order, rows, heads(false));
    }
    if (target.pairs) {
      const int64_t count = heads(tensor.name.find(".attn_k") != std::string::npos);
      check_heads(tensor, rows, count);
      order_pairs(place.order, 0, rows, count);
    }
    return {placed};
  }

  // One for each index of the first dimension; each of them, with |, in halves of its rows.
  static std::vector<Placed> by_index(const Placed& whole, GgufForm form, const GgufTensor& tensor) {
    const auto& [info, place] = whole;
    if (tensor.shape.size() < 2) refuse(tensor, "is a list, expected a stack");
    if (tensor.shape[0] > 100000) refuse(tensor, fmt::format("is a stack of {}", tensor.shape[0]));
    if (tensor.shape.size() == 2 && is_packed(place.runs[0].stored)) refuse(tensor, "is a quantised bias, which is not read");
    std::vector<int64_t> shape(tensor.shape.begin() + 1, tensor.shape.end());
    const std::vector<std::string> names = split(info.name);
    const int64_t parts = form == GgufForm::halves ? 2 : 1;
    if (shape[0] % parts != 0) refuse(tensor, fmt::format("has {} rows, expected an even number", shape[0]));
    shape[0] /= parts;
    const int64_t rows = place.runs[0].rows / tensor.shape[0] / parts;
    std::vector<Placed> all;
    for (int64_t index = 0; index < tensor.shape[0]; ++index) {
      for (int64_t part = 0; part < parts; ++part) {
        Placed one = whole;
        one.first.name = replaced(names[static_cast<size_t>(part)], "{}", std::to_string(index));
        one.first.shape = shape;
        Run& run = one.second.runs[0];
        run.offset += static_cast<uint64_t>(bytes_of(run.stored, (index * parts + part) * rows * place.cols));
        run.rows = rows;
        all.push_back(std::move(one));
      }
    }
    return all;
  }

  std::vector<Placed> queries_keys_values(const Placed& whole, bool pairs, const GgufTensor& tensor) const {
    const int64_t rows = whole.second.runs[0].rows, count = heads(false), of_keys = heads(true);
    if (rows % (count + 2 * of_keys) != 0)
      refuse(tensor, fmt::format("has {} rows, expected a multiple of {} heads and twice {} key-value heads", rows, count, of_keys));
    if (tensor.shape.size() == 1 && is_packed(whole.second.runs[0].stored)) refuse(tensor, "is a quantised bias, which is not read");
    const int64_t head_rows = rows / (count + 2 * of_keys);
    std::vector<Placed> all;
    int64_t first = 0;
    for (const std::string& name : split(whole.first.name)) {
      const int64_t here = all.empty() ? count : of_keys;
      Placed one = whole;
      one.first.name = name;
      one.first.shape[0] = here * head_rows;
      Run& run = one.second.runs[0];
      run.offset += static_cast<uint64_t>(bytes_of(run.stored, first * one.second.cols));
      run.rows = here * head_rows;
      if (pairs && all.size() < 2) {
        check_heads(tensor, run.rows, here);
        order_pairs(one.second.order, 0, run.rows, here);
      }
      first += run.rows;
      all.push_back(std::move(one));
    }
    return all;
  }

  // Sizes of the gated delta rule.
  struct DeltaSizes {
    int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  };
  DeltaSizes delta_sizes(const GgufTensor& tensor) const {
    const auto size = [&](const char* key) { return static_cast<int64_t>(required_gguf_size(*file_, key)); };
    DeltaSizes sizes{size("ssm.group_count"), size("ssm.time_step_rank"), size("ssm.state_size"), 0};
    if (sizes.value_heads % sizes.key_heads != 0 || size("ssm.inner_size") % sizes.value_heads != 0)
      refuse(tensor, fmt::format("is of {} value heads over {} key heads", sizes.value_heads, sizes.key_heads));
    sizes.value_dim = size("ssm.inner_size") / sizes.value_heads;
    return sizes;
  }

  // Value head r of key head k is stored as r · key heads + k. Architectures without key heads keep their order.
  void order_value_heads(std::vector<int64_t>& order, int64_t first, int64_t rows, const GgufTensor& tensor) const {
    if (!architecture_.traits.tiled_value_heads) return;
    const DeltaSizes sizes = delta_sizes(tensor);
    if (rows % sizes.value_heads != 0) refuse(tensor, fmt::format("has {} rows, expected a multiple of {} heads", rows, sizes.value_heads));
    const int64_t unit = rows / sizes.value_heads, each = sizes.value_heads / sizes.key_heads;
    for (int64_t head = 0; head < sizes.value_heads; ++head)
      for (int64_t row = 0; row < unit; ++row) order.push_back(first + (head % each * sizes.key_heads + head / each) * unit + row);
  }

  void value_columns(Placed& placed, const GgufTensor& tensor) const {
    auto& [info, place] = placed;
    std::vector<int64_t> order;
    order_value_heads(order, 0, place.cols, tensor);
    if (tensor.shape.size() != 2 || std::is_sorted(order.begin(), order.end())) return;
    place.matrices = place.runs[0].rows;
    place.make = [run = place.runs[0], cols = place.cols, order](const unsigned char* file, int64_t row, float* out) {
      std::vector<float> stored(static_cast<size_t>(cols));
      unpack_to_f32(stored.data(), file + run.offset + bytes_of(run.stored, row * cols), run.stored, cols);
      for (size_t i = 0; i < order.size(); ++i) out[i] = stored[static_cast<size_t>(order[i])];
    };
  }

  static void transpose(Placed& placed, const GgufTensor& tensor) {
    auto& [info, place] = placed;
    if (tensor.shape.size() == 2) return;  // the bias of a stack
    if (tensor.shape.size() != 3) refuse(tensor, "is no stack of matrices");
    const int64_t rows = tensor.shape[1], cols = tensor.shape[2];
    info.shape = {tensor.shape[0], cols, rows};
    place.matrices = tensor.shape[0];
    make_of_columns(place, {{place.runs[0], rows, cols}});
  }

  static void make_of_columns(Place& place, std::vector<StackRun> pieces) {
    int64_t outputs = 0;
    for (const StackRun& piece : pieces) outputs += piece.rows;
    place.pieces = pieces;
    place.make = [pieces = std::move(pieces), outputs](const unsigned char* file, int64_t index, float* out) {
      for (const StackRun& piece : pieces) put_columns(out, outputs, file, piece, index);
    };
  }

  // Matrix `index` of a stack, transposed, into one of so many columns.
  static void put_columns(float* out, int64_t columns, const unsigned char* file, const StackRun& from, int64_t index) {
    const auto& [run, rows, cols, first, step] = from;
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = 0; r < rows; ++r) {
      unpack_to_f32(row.data(), file + run.offset + bytes_of(run.stored, (index * rows + r) * cols), run.stored, cols);
      for (int64_t c = 0; c < cols; ++c) out[c * columns + r * step + first] = row[static_cast<size_t>(c)];
    }
  }

  void hold(Placed placed, GgufForm form, size_t which) {
    auto& halves = joined_[placed.first.name];
    halves.form = form;
    halves.parts[which] = std::move(placed);
  }

  // One tensor of two of the file.
  struct Halves {
    GgufForm form = GgufForm::as_stored;
    Placed parts[2];
  };
  void join(const std::string& name, Halves& halves) {
    auto& [upper, lower] = halves.parts;
    const auto fail = [&](const std::string& what) { throw Error(ErrorKind::bad_data, "tensor " + in_quotes(name) + " " + what); };
    if (upper.second.runs.empty() || lower.second.runs.empty()) fail("is there by half");
    if (lower.first.stored_as != upper.first.stored_as) upper.first.stored_as += " and " + lower.first.stored_as;
    const std::vector<int64_t>&shape = upper.first.shape, &below = lower.first.shape;
    if (shape.size() < 2 || shape.size() != below.size() || shape[0] > 100000) fail("has a shape of which it cannot be put together");
    switch (halves.form) {
      case GgufForm::first_half:
      case GgufForm::second_half:
        if (shape != below) fail("has two halves of other shapes");
        join_rows(upper, lower.second.runs[0]);
        break;
      case GgufForm::even_columns:
      case GgufForm::odd_columns:
      case GgufForm::left_columns:
      case GgufForm::right_columns:
        if (shape != below) fail("has two halves of other shapes");
        join_columns(upper, lower.second.runs[0], halves.form == GgufForm::even_columns || halves.form == GgufForm::odd_columns);
        break;
      case GgufForm::keys_of_heads:
      case GgufForm::values_of_heads:
        if (shape.size() != 3 || shape[0] != below[0] || shape[1] != below[2]) fail("has keys and values of other shapes");
        join_heads(upper, lower);
        break;
      default:
        if (shape.size() != 2 || shape[1] != below[1]) fail("has rows of other lengths");
        join_groups(upper, lower);
    }
    finish(std::move(upper));
  }

  // Two matrices, or two stacks of them, above each other.
  static void join_rows(Placed& upper, const Run& below) {
    auto& [info, place] = upper;
    const Run above = place.runs[0];
    const int64_t stack = info.shape.size() == 2 ? 1 : info.shape[0], rows = above.rows / stack;
    place.runs.clear();
    for (int64_t index = 0; index < stack; ++index)
      for (Run run : {above, below}) {
        run.offset += static_cast<uint64_t>(bytes_of(run.stored, index * rows * place.cols));
        run.rows = rows;
        place.runs.push_back(run);
      }
    info.shape[info.shape.size() - 2] *= 2;
    if (info.shape.size() == 3 && !place.changed()) place.pieces = {{above, rows, place.cols}, {below, rows, place.cols, rows}};
  }

  static void join_columns(Placed& upper, const Run& below, bool in_turn) {
    auto& [info, place] = upper;
    const bool lists = info.shape.size() == 2;  // [E, n]: as a stack of columns
    const int64_t rows = info.shape[1], cols = lists ? 1 : info.shape[2];
    info.shape = lists ? std::vector<int64_t>{info.shape[0], 2 * rows} : std::vector<int64_t>{info.shape[0], cols, 2 * rows};
    if (lists && (is_packed(place.runs[0].stored) || is_packed(below.stored)))
      throw Error(ErrorKind::bad_data, "tensor " + in_quotes(info.name) + " is a quantised bias, which is not read");
    place.matrices = info.shape[0];
    if (in_turn) make_of_columns(place, {{place.runs[0], rows, cols, 0, 2}, {below, rows, cols, 1, 2}});
    else make_of_columns(place, {{place.runs[0], rows, cols}, {below, rows, cols, rows}});
  }

  static void join_heads(Placed& upper, const Placed& lower) {
    auto& [info, place] = upper;
    const int64_t rank = info.shape[1], keys = info.shape[2], values = lower.first.shape[1];
    place.matrices = info.shape[0];
    info.shape = {place.matrices * (keys + values), rank};
    place.make = [above = place.runs[0], below = lower.second.runs[0], rank, keys, values](const unsigned char* file, int64_t head,
                                                                                           float* out) {
      put_columns(out, rank, file, {above, rank, keys}, head);
      unpack_to_f32(out + keys * rank, file + below.offset + bytes_of(below.stored, head * values * rank), below.stored, values * rank);
    };
  }

  void join_groups(Placed& upper, const Placed& lower) const {
    TensorInfo& info = upper.first;
    auto& place = upper.second;
    const GgufTensor named{info.name, 0, info.shape, 0, 0};
    const DeltaSizes sizes = delta_sizes(named);
    const int64_t keys = sizes.key_heads * sizes.key_dim, values = sizes.value_heads * sizes.value_dim, each = values / sizes.key_heads;
    if (info.shape[0] != 2 * keys + values || lower.first.shape[0] != values)
      refuse(named, fmt::format("has {} and {} rows, expected {} and {}", info.shape[0], lower.first.shape[0], 2 * keys + values, values));
    const auto rows = [&](int64_t first, int64_t count) {
      for (int64_t row = 0; row < count; ++row) place.order.push_back(first + row);
    };
    for (int64_t head = 0; head < sizes.key_heads; ++head) {
      rows(head * sizes.key_dim, sizes.key_dim);
      rows(keys + head * sizes.key_dim, sizes.key_dim);
      rows(2 * keys + head * each, each);
      rows(2 * keys + values + head * each, each);
    }
    place.runs.push_back(lower.second.runs[0]);
    info.shape[0] += values;
  }

  // Apertus keeps what its activation learned in the metadata.
  void add_made() {
    if (architecture_.name != "apertus") return;
    for (const char* which : {"alpha_p", "alpha_n", "beta", "eps"}) {
      const std::vector<float> values = file_->floats(std::string("xielu.") + which);
      for (size_t layer = 0; layer < values.size(); ++layer) {
        const bool learned = std::string_view(which).starts_with("alpha");
        Placed placed{{fmt::format("model.layers.{}.mlp.act_fn.{}", layer, which), Dtype::F32, {}, "F32", file_->path}, {}};
        if (learned) placed.first.shape = {1};
        placed.second.made = {values[layer]};
        all_.push_back(std::move(placed));
      }
    }
  }

  void finish(Placed placed) {
    auto& [info, place] = placed;
    const Dtype stored = place.runs[0].stored;
    if (place.one_type() && !is_packed(stored) && !place.log_negative) info.dtype = stored;
    else if (place.one_type() && is_packed(stored) && !place.changed() && !place.make) info.packed = stored;
    all_.push_back(std::move(placed));
  }

  // The mapped bytes when their rows lie as Hugging Face's do.
  Tensor view(const TensorInfo& info) const {
    const Place& place = place_of(info);
    const Run& run = place.runs[0];
    const unsigned char* at = file_->file.data() + run.offset;
    const bool usable = place.runs.size() == 1 && !place.make && place.order.empty() && !place.changed() &&
                        (is_packed(run.stored) || reinterpret_cast<uintptr_t>(at) % size_of(run.stored) == 0);
    return Tensor(usable ? const_cast<unsigned char*>(at) : nullptr, run.stored, std::span<const int64_t>(info.shape));
  }
  // A row from `source` to elements [first, …) of out, by pieces that are a multiple of every block.
  static void read_row(const Place& place, Dtype stored, const unsigned char* source, const Tensor& out, int64_t first) {
    constexpr int64_t kPiece = 1024;
    float values[kPiece];
    for (int64_t done = 0; done < place.cols; done += kPiece) {
      const int64_t n = std::min(kPiece, place.cols - done);
      const unsigned char* from = source + bytes_of(stored, done);
      unpack_to_f32(values, from, stored, n);
      for (int64_t i = 0; i < n; ++i) {
        values[i] += place.added;
        if (place.log_negative) values[i] = std::log(-values[i]);
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
  const GgufArchitecture& architecture_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
  // While the source is made.
  std::vector<Placed> all_;
  std::map<std::string, Halves> joined_;
  std::vector<std::string> problems_;
};

}  // namespace

std::unique_ptr<TensorSource> open_gguf(std::shared_ptr<const GgufFile> file) { return std::make_unique<GgufSource>(std::move(file)); }
std::unique_ptr<TensorSource> open_gguf(const std::string& path) { return open_gguf(std::make_shared<const GgufFile>(path)); }

}  // namespace loraine
