// A source over that of the file: tensors under other names, and those of experts put together when they are read.
#include "loraine/model/older_adapters.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include "loraine/core/error.h"
#include "loraine/kernels/experts/expert_adapter.h"

namespace loraine {
namespace {

constexpr std::string_view kPrefix = "base_model.model.", kBaseLayer = ".base_layer", kSuffixA = ".lora_A.weight",
                           kSuffixB = ".lora_B.weight";

// A and B of one matrix of one expert.
struct Piece {
  const TensorInfo *a = nullptr, *b = nullptr;
  float by = 1;  // its scale by that of the parameter
};

// LoRA on the experts of one parameter, each in a layer of its own.
struct Split {
  const ExpertWeights* weights = nullptr;
  std::vector<Piece> pieces;   // [E][matrices of an expert]
  std::vector<int64_t> ranks;  // by matrix of an expert: the largest there is
  float scale = 0;
  int64_t rank() const {
    int64_t sum = 0;
    for (const int64_t r : ranks) sum += r;
    return sum;
  }
  Piece& at(int64_t e, size_t matrix) { return pieces[static_cast<size_t>(e) * ranks.size() + matrix]; }
  const Piece& at(int64_t e, size_t matrix) const { return pieces[static_cast<size_t>(e) * ranks.size() + matrix]; }
  int64_t columns() const { return weights->out / static_cast<int64_t>(ranks.size()); }
};

class RenamedSource final : public TensorSource {
 public:
  explicit RenamedSource(std::shared_ptr<const TensorSource> inner) : inner_(std::move(inner)) {}
  void add(const std::string& name, const TensorInfo& of_inner) { from_.push_back({name, &of_inner, nullptr, false}); }
  void add(const std::string& key, std::shared_ptr<const Split> split) {
    from_.push_back({key + std::string(kSuffixA), nullptr, split, false});
    from_.push_back({key + std::string(kSuffixB), nullptr, std::move(split), true});
  }
  // Gives a name that came twice, or nothing.
  std::string finish() {
    std::ranges::sort(from_, {}, &From::name);
    for (size_t i = 1; i < from_.size(); ++i)
      if (from_[i].name == from_[i - 1].name) return from_[i].name;
    for (const From& from : from_) {
      TensorInfo info;
      if (from.info) info = *from.info;
      else info.shape = shape_of(from), info.stored_as = "F32";
      info.name = from.name;
      infos_.push_back(std::move(info));
    }
    return "";
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Tensor map(const TensorInfo& info) const override {
    const From& from = from_of(info);
    return from.info ? inner_->map(*from.info) : Tensor();
  }
  void read(const TensorInfo& info, const Tensor& out) const override {
    const From& from = from_of(info);
    if (from.info) return inner_->read(*from.info, out);
    read_together(from, out);
  }

 private:
  struct From {
    std::string name;
    const TensorInfo* info;              // the tensor in the file
    std::shared_ptr<const Split> split;  // or the many that it is made of
    bool is_b;
  };
  const From& from_of(const TensorInfo& info) const { return from_[static_cast<size_t>(&info - infos_.data())]; }

  static std::vector<int64_t> shape_of(const From& from) {
    const ExpertWeights& w = *from.split->weights;
    const int64_t ranks = w.experts * from.split->rank();
    if (from.is_b) return {w.a_gives_output ? w.in : w.out, ranks};
    return {ranks, w.a_gives_output ? w.out : w.in};
  }

  // Each matrix has ranks of its own, in whose columns of B the rows of the others are zeros.
  void read_together(const From& from, const Tensor& out) const {
    const Split& split = *from.split;
    const ExpertWeights& w = *split.weights;
    const int64_t r = split.rank(), columns = split.columns();
    const Buffer down(static_cast<size_t>(w.experts * r * w.in) * sizeof(float), true),
        up(static_cast<size_t>(w.experts * w.out * r) * sizeof(float), true),
        other(static_cast<size_t>(
                  w.experts * r *
                  (from.is_b ? shape_of({"", nullptr, from.split, false})[1] : shape_of({"", nullptr, from.split, true})[0])) *
              sizeof(float));
    const ExpertFactors factors{Tensor(down.data(), Dtype::F32, {w.experts, r, w.in}), Tensor(up.data(), Dtype::F32, {w.experts, w.out, r}),
                                1};
    std::vector<float> room;
    for (int64_t e = 0; e < w.experts; ++e) {
      int64_t first = 0;
      for (size_t m = 0; m < split.ranks.size(); first += split.ranks[m], ++m) {
        const Piece& piece = split.at(e, m);
        if (!piece.a) continue;
        const int64_t own = piece.a->shape[0];
        inner_->read(*piece.a, Tensor(factors.down.f32() + (e * r + first) * w.in, Dtype::F32, {own, w.in}));
        room.resize(static_cast<size_t>(columns * own));
        inner_->read(*piece.b, Tensor(room.data(), Dtype::F32, {columns, own}));
        float* to = factors.up.f32() + (e * w.out + static_cast<int64_t>(m) * columns) * r + first;
        for (int64_t row = 0; row < columns; ++row)
          for (int64_t k = 0; k < own; ++k) to[row * r + k] = piece.by * room[static_cast<size_t>(row * own + k)];
      }
    }
    const Tensor rest(other.data(), Dtype::F32, shape_of({"", nullptr, from.split, !from.is_b}));
    expert_factors_to_peft(from.is_b ? rest : out, from.is_b ? out : rest, factors, w.a_gives_output);
  }

  std::shared_ptr<const TensorSource> inner_;
  std::vector<From> from_;
  std::vector<TensorInfo> infos_;
};

// What the modules of a model were called, without the wrapper of nested models → what they are now.
class OlderNames {
 public:
  explicit OlderNames(const Model& model) {
    const auto add = [&](const std::string& older, const std::string& now) {
      if (without_wrapper(older) != without_wrapper(now)) now_.emplace(without_wrapper(older), now);
    };
    const auto module_of = [](const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); };
    const ModelNames& names = model.config.names;
    add(names.in_files(names.embedding), names.embedding);
    for (const Weight* site : model.sites())
      for (const WeightPart& part : site->parts) add(part.stored, part.name);
    for (const Vector* vector : model.vectors()) {
      const bool of_module = vector->name.ends_with(".weight") || vector->name.ends_with(".bias");  // others may lie beside modules
      if (of_module) add(module_of(vector->stored), module_of(vector->name));
      else add(vector->stored, vector->name);
    }
    for (const ExpertWeights* w : model.experts())
      for (int64_t e = 0; e < w->experts; ++e)
        for (size_t m = 0; m < w->pieces.size(); ++m) {
          const std::string path = names.in_files(fmt::format("{}.{}.{}", w->module, e, w->pieces[m]));
          experts_.emplace(without_wrapper(path), Place{w, e, m, path});
        }
  }

  struct Place {
    const ExpertWeights* weights;
    int64_t expert;
    size_t matrix;
    std::string path;
  };
  // Of a tensor's name without PEFT's prefix: the matrix of an expert that it belongs to, and what follows its path.
  const Place* expert_of(const std::string& name, std::string& rest) const {
    const std::string plain = without_wrapper(name);
    for (size_t end = plain.find(".lora_"); end != plain.npos; end = plain.npos)
      if (const auto found = experts_.find(plain.substr(0, end)); found != experts_.end()) {
        rest = plain.substr(end);
        return &found->second;
      }
    return nullptr;
  }
  const std::unordered_map<std::string, Place>& experts() const { return experts_; }
  // The name with the module's path as it is now; empty where that is the same.
  std::string renamed(const std::string& name) const {
    const std::string plain = without_wrapper(name);
    for (size_t end = plain.size(); end != plain.npos && end > 0; end = plain.rfind('.', end - 1))
      if (const auto found = now_.find(plain.substr(0, end)); found != now_.end()) return found->second + plain.substr(end);
    return "";
  }
  // The end of a path that a config names, as it is now.
  std::string renamed_word(const std::string& word) const {
    for (const auto& [older, now] : now_) {
      if (older == word) return now;
      if (!older.ends_with("." + word)) continue;
      const std::string before = older.substr(0, older.size() - word.size());
      if (now.starts_with(before)) return now.substr(before.size());
    }
    return word;
  }

 private:
  std::unordered_map<std::string, std::string> now_;
  std::unordered_map<std::string, Place> experts_;
};

[[noreturn]] void does_not_fit(const AdapterFile& file, const std::string& text) {
  throw Error(ErrorKind::bad_data, fmt::format("{} does not fit: {}", file.path, text),
              "is the adapter for another model, or its file damaged?");
}

void check_piece(const AdapterFile& file, const Piece& piece, const std::string& path, int64_t r, int64_t in, int64_t out) {
  if (!piece.a || !piece.b) does_not_fit(file, path + ": the config targets this module and the file has no A or no B for it");
  const auto check = [&](const TensorInfo& info, int64_t rows, int64_t cols) {
    if (info.dtype != Dtype::F32 && info.dtype != Dtype::F16 && info.dtype != Dtype::BF16)
      does_not_fit(file, fmt::format("{}: stored as {}, expected F32, F16 or BF16", info.name, info.stored_as));
    if (info.shape != std::vector<int64_t>{rows, cols})
      does_not_fit(file, fmt::format("{}: file has {}, model and config imply [{}, {}]", info.name,
                                     Tensor(nullptr, Dtype::F32, info.shape).shape_text(), rows, cols));
  };
  check(*piece.a, r, in);
  check(*piece.b, out, r);
}

// Ranks and scales that the config gives the layers of experts, against the file.
void settle(Split& split, const OlderNames& names, const LoraConfig& config, const ModelNames& in_files, const AdapterFile& file) {
  const ExpertWeights& w = *split.weights;
  for (int64_t e = 0; e < w.experts; ++e)
    for (size_t m = 0; m < split.ranks.size(); ++m) {
      const std::string path =
          names.experts().at(without_wrapper(in_files.in_files(fmt::format("{}.{}.{}", w.module, e, w.pieces[m])))).path;
      Piece& piece = split.at(e, m);
      const auto rank = target_rank(config, path);
      if (!rank) {
        if (piece.a || piece.b)
          does_not_fit(file, (piece.a ? piece.a : piece.b)->name + ": belongs to no module that the config targets in this model");
        continue;
      }
      check_piece(file, piece, path, rank->r, w.in, split.columns());
      split.ranks[m] = std::max(split.ranks[m], rank->r);
      if (split.scale == 0) split.scale = rank->scale;
      piece.by = split.scale == 0 ? 1.0f : rank->scale / split.scale;
    }
}

std::string last_two_words(const std::string& path) {
  const size_t last = path.rfind('.');
  return path.substr(path.rfind('.', last - 1) + 1);
}

std::string as_pattern(const std::string& words) {
  std::string out = ".*\\.";
  for (const char c : words) out += c == '.' ? std::string("\\.") : std::string(1, c);
  return out;
}

// The layers of experts leave the config, and their parameters enter it.
void name_parameters(LoraConfig& config, const Model& model, const std::vector<std::shared_ptr<Split>>& splits) {
  std::map<std::string, std::vector<const Split*>> by_words;
  for (const auto& split : splits) by_words[last_two_words(split->weights->name())].push_back(split.get());
  const auto patterns = [&](const std::string& key, const Split& split) {
    const double r = static_cast<double>(split.rank()), alpha = static_cast<double>(split.scale) * (config.use_rslora ? std::sqrt(r) : r);
    const double whole = std::round(alpha);
    const double exact = std::abs(alpha - whole) < 1e-5 * std::abs(alpha) ? whole : alpha;
    if (split.rank() != config.r) config.rank_pattern.insert(config.rank_pattern.begin(), {key, split.rank()});
    if (exact != config.lora_alpha) config.alpha_pattern.insert(config.alpha_pattern.begin(), {key, exact});
  };
  for (const auto& entry : by_words) {
    const std::string& words = entry.first;
    const std::vector<const Split*>& of_them = entry.second;
    size_t all = 0;
    for (const ExpertWeights* w : model.experts()) all += last_two_words(w->name()) == words;
    const bool alike = all == of_them.size() && std::ranges::all_of(of_them, [&](const Split* one) {
                         return one->rank() == of_them[0]->rank() && one->scale == of_them[0]->scale;
                       });
    if (alike) {
      config.target_parameters.push_back(words);
      patterns(as_pattern(words), *of_them[0]);
      continue;
    }
    for (const Split* one : of_them) {
      config.target_parameters.push_back(one->weights->name());
      patterns(as_pattern(one->weights->name()).substr(4), *one);
    }
  }
}

// Words of the files become those of modules; a regular expression, which knows neither, the list of modules that it reaches.
void name_modules(LoraConfig& config, const Model& model, const OlderNames& names) {
  std::vector<std::string> targets;
  if (config.target_regex.empty()) {
    for (const std::string& word : config.target_modules) {
      LoraConfig one;
      one.target_modules = {names.renamed_word(word)};
      bool reaches = target_rank(one, model.config.names.embedding).has_value();
      for (const Weight* site : model.sites())
        for (const WeightPart& part : site->parts) reaches = reaches || target_rank(one, part.name);
      if (reaches) targets.push_back(one.target_modules[0]);
    }
  } else {
    for (const Weight* site : model.sites())
      for (const WeightPart& part : site->parts)
        if (target_rank(config, part.stored) || target_rank(config, part.name)) targets.push_back(part.name);
    config.target_regex.clear();
  }
  config.target_modules = std::move(targets);
  name_bare_weights(config, model.sites());
  for (auto* words : {&config.exclude_modules, &config.modules_to_save})
    for (std::string& word : *words) word = names.renamed_word(word);
  for (auto& [word, rank] : config.rank_pattern) word = names.renamed_word(word);
  for (auto& [word, alpha] : config.alpha_pattern) word = names.renamed_word(word);
}

// PEFT keeps the adapter of one parameter inside that of the module's other one. Which is which differs by how the module was wrapped:
// where the shapes inside are those of the other one alone, the names are exchanged.
bool nests_otherwise(const AdapterFile& file, const Model& model) {
  std::map<std::string, int64_t> widths;  // of A's rows and B's columns
  for (const TensorInfo& info : file.tensors->tensors())
    if (info.name.find(kBaseLayer) != info.name.npos && info.shape.size() == 2)
      widths[without_wrapper(info.name)] = info.shape[info.name.ends_with(kSuffixA) ? 1 : 0];
  if (widths.empty()) return false;
  const std::vector<const ExpertWeights*> all = model.experts();
  for (const ExpertWeights* inner : all)
    for (const ExpertWeights* outer : all) {
      if (!inner->nested || outer == inner || outer->module != inner->module) continue;
      const std::string key = without_wrapper(std::string(kPrefix) + inner->module) + std::string(kBaseLayer);
      const auto a = widths.find(key + std::string(kSuffixA)), b = widths.find(key + std::string(kSuffixB));
      if (a == widths.end() || b == widths.end()) continue;
      const auto fits = [&](const ExpertWeights& w) {
        return (a->second == w.in && b->second == w.out) || (a->second == w.out && b->second == w.in);
      };
      return fits(*outer) && !fits(*inner);
    }
  return false;
}

}  // namespace

AdapterFile adapter_as_named_today(const Model& model, LoraConfig& config, const std::string& folder) {
  AdapterFile file = open_adapter_file(folder);
  const OlderNames names(model);
  std::vector<std::shared_ptr<Split>> splits(model.experts().size());
  auto source = std::make_shared<RenamedSource>(file.tensors);
  const bool turned = nests_otherwise(file, model);
  bool older = false;
  for (const TensorInfo& info : file.tensors->tensors()) {
    const std::string plain = info.name.starts_with(kPrefix) ? info.name.substr(kPrefix.size()) : info.name;
    std::string rest;
    if (const OlderNames::Place* place = names.expert_of(plain, rest)) {
      if (rest != kSuffixA && rest != kSuffixB)
        throw Error(ErrorKind::unsupported, fmt::format("{}: {} is of DoRA on experts, which is not built", file.path, info.name),
                    "merge the adapter with the PEFT that made it");
      auto& split = splits[static_cast<size_t>(place->weights->index)];
      if (!split) {
        split = std::make_shared<Split>();
        split->weights = place->weights;
        split->ranks.resize(place->weights->pieces.size());
        split->pieces.resize(static_cast<size_t>(place->weights->experts) * split->ranks.size());
      }
      Piece& piece = split->at(place->expert, place->matrix);
      (rest == kSuffixA ? piece.a : piece.b) = &info;
      continue;
    }
    std::string name = names.renamed(plain);
    older = older || !name.empty();
    name = name.empty() ? info.name : std::string(kPrefix) + name;
    if (const size_t at = name.rfind(".lora_"); turned && at != name.npos) {
      const std::string module = name.substr(0, at), kind = name.substr(at);
      const bool inside = module.ends_with(kBaseLayer);
      const std::string own = inside ? module.substr(0, module.size() - kBaseLayer.size()) : module;
      if (std::ranges::any_of(model.experts(), [&](const ExpertWeights* w) {
            return without_wrapper(own) == without_wrapper(std::string(kPrefix) + w->module);
          }))
        name = own + (inside ? "" : std::string(kBaseLayer)) + kind;
    }
    source->add(name, info);
  }
  std::erase(splits, nullptr);
  if (!older && !turned && splits.empty()) return file;
  for (const auto& split : splits) settle(*split, names, config, model.config.names, file);
  if (older || !splits.empty()) {
    name_modules(config, model, names);
    name_parameters(config, model, splits);
  }
  for (const auto& split : splits) {
    const ExpertWeights& w = *split->weights;
    const bool inside =
        w.nested && std::ranges::any_of(splits, [&](const auto& other) { return other != split && other->weights->module == w.module; });
    source->add(std::string(kPrefix) + w.module + (inside ? std::string(kBaseLayer) : ""), split);
  }
  if (const std::string twice = source->finish(); !twice.empty()) does_not_fit(file, twice + ": it has this tensor under two names");
  return {file.path, source, file.newer || !splits.empty()};
}

}  // namespace loraine
