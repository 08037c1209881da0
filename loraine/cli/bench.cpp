// `loraine bench`: speed of a training step, of prefill and of decoding, each beside what this machine can do at all: the rate of
// oneDNN's own products on the same shapes, the rate of a plain read of the weights. Measured in one process, best of several rounds; the
// JSON has the shares of every round too (tests/speed/ratios_test.py).
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <numeric>
#include <tuple>

#include "loraine/adapters/start.h"
#include "loraine/cli/arguments.h"
#include "loraine/cli/bench_batch.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/progress.h"
#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/kernels/products/int8_products.h"
#include "loraine/model/int8.h"
#include "loraine/model/load.h"
#include "loraine/train/load_options.h"
#include "loraine/train/loss.h"
#include "loraine/train/optimizer.h"

namespace loraine {
namespace {

struct BenchOptions {
  std::string tokens = "512,1024", dtype = "f32,bf16";
  int64_t rank = 8, repeats = 3, new_tokens = 32, prompt_tokens = 256;
  bool profile = false;
  std::optional<std::string> json;
};

std::vector<Option> options_of(BenchOptions& o) {
  return {{"tokens", "bench", &o.tokens, "Tokens of a training step, a comma list; 0 leaves training out."},
          {"dtype", "bench", &o.dtype, "Type of the base weights and products, a comma list of f32 and bf16."},
          {"rank", "bench", &o.rank, "Rank of the adapter (all linear layers).", {.lowest = 1, .highest = 4096}},
          {"repeats", "bench", &o.repeats, "Rounds; the best of each figure is shown.", {.lowest = 1, .highest = 1000}},
          {"prompt_tokens", "bench", &o.prompt_tokens, "Tokens of the prompt that is read in.", {.lowest = 1, .highest = 65536}},
          {"new_tokens", "bench", &o.new_tokens, "Tokens that are generated; 0 leaves generation out.", {.lowest = 0, .highest = 65536}},
          {"profile", "bench", &o.profile, "Show the time of every op of a training step."},
          {"json", "bench", &o.json, "File that gets the figures as JSON."}};
}

// Weights of the shape of SmolLM2-135M, made from a hash of their place: without a model folder there is still something to measure.
class RandomWeights : public TensorSource {
 public:
  RandomWeights(const Json& config, Dtype dtype) {
    int64_t C = config["hidden_size"], F = config["intermediate_size"], V = config["vocab_size"], D = config["head_dim"];
    int64_t q = config["num_attention_heads"].get<int64_t>() * D, kv = config["num_key_value_heads"].get<int64_t>() * D;
    auto add = [&](const std::string& name, std::vector<int64_t> shape) {
      all_.push_back({name, shape.size() == 1 ? Dtype::F32 : dtype, shape, name_of(dtype), "random"});
    };
    add("model.embed_tokens.weight", {V, C});
    add("model.norm.weight", {C});
    for (int64_t layer = 0; layer < config["num_hidden_layers"].get<int64_t>(); ++layer) {
      std::string p = fmt::format("model.layers.{}.", layer);
      add(p + "input_layernorm.weight", {C});
      add(p + "post_attention_layernorm.weight", {C});
      add(p + "self_attn.q_proj.weight", {q, C});
      add(p + "self_attn.k_proj.weight", {kv, C});
      add(p + "self_attn.v_proj.weight", {kv, C});
      add(p + "self_attn.o_proj.weight", {C, q});
      add(p + "mlp.gate_proj.weight", {F, C});
      add(p + "mlp.up_proj.weight", {F, C});
      add(p + "mlp.down_proj.weight", {C, F});
    }
    std::sort(all_.begin(), all_.end(), [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  }
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo&) const override { return {}; }
  void read(const TensorInfo& info, const Tensor& out) const override {
    bool norm = info.shape.size() == 1;
    uint32_t state = static_cast<uint32_t>(std::hash<std::string>{}(info.name));
    for (int64_t i = 0; i < out.numel(); ++i) {
      state = state * 1664525u + 1013904223u;
      float value = norm ? 1.0f : (static_cast<float>(state >> 8) / 16777216.0f - 0.5f) * 0.1f;
      if (out.dtype == Dtype::F32) static_cast<float*>(out.data)[i] = value;
      else convert(static_cast<uint16_t*>(out.data) + i, out.dtype, &value, Dtype::F32, 1);
    }
  }

 private:
  std::vector<TensorInfo> all_;
};

ModelFiles random_files(Dtype dtype) {
  ModelFiles files;
  files.path = "random weights, SmolLM2-135M shape";
  files.config = {{"model_type", "llama"},
                  {"vocab_size", 49152},
                  {"hidden_size", 576},
                  {"intermediate_size", 1536},
                  {"num_hidden_layers", 30},
                  {"num_attention_heads", 9},
                  {"num_key_value_heads", 3},
                  {"head_dim", 64},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 100000.0},
                  {"tie_word_embeddings", true},
                  {"hidden_act", "silu"},
                  {"max_position_embeddings", 8192},
                  {"eos_token_id", 2},
                  {"bos_token_id", 1}};
  files.tensors = std::make_unique<RandomWeights>(files.config, dtype);
  return files;
}

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Peak resident bytes since the last reset; what was freed before does not count.
void reset_peak() {
  malloc_trim(0);
  if (FILE* file = std::fopen("/proc/self/clear_refs", "w")) {
    std::fputs("5", file);
    std::fclose(file);
  }
}
int64_t peak_bytes() {
  int64_t kib = 0;
  if (FILE* file = std::fopen("/proc/self/status", "r")) {
    char line[256];
    while (std::fgets(line, sizeof line, file)) std::sscanf(line, "VmHWM: %ld kB", &kib);
    std::fclose(file);
  }
  return kib * 1024;
}

// One product shape of a step and how often it runs.
struct Shape {
  int64_t M, N, K;
  bool nn;
  Dtype type;  // that oneDNN multiplies it in here
  auto operator<=>(const Shape&) const = default;
};

std::map<Shape, int64_t> frozen_products(const Model& model, int64_t tokens) {
  std::map<Shape, int64_t> shapes;
  const Dtype exact = model.use_bf16 && has_bf16_products() ? Dtype::BF16 : Dtype::F32;
  for (size_t layer = 0; layer < model.blocks.size(); ++layer) {
    for (int kind = 0; kind < kSiteKinds; ++kind) {
      const Weight& w = model.blocks[layer].sites[kind];
      const Dtype type = w.integer_products && has_int8_products() ? Dtype::I8 : exact;
      ++shapes[{tokens, w.out(), w.in(), false, type}];
      if (layer > 0 || kind != kQkv) ++shapes[{tokens, w.in(), w.out(), true, type}];
    }
  }
  const int64_t chunk = loss_chunk(model);
  for (int64_t rest = tokens; rest > 0; rest -= chunk) {
    int64_t rows = std::min(rest, chunk);
    ++shapes[{rows, model.head.out(), model.head.in(), false, exact}];
    ++shapes[{rows, model.head.in(), model.head.out(), true, exact}];
  }
  return shapes;
}

double flops_of(const std::map<Shape, int64_t>& shapes) {
  double sum = 0;
  for (const auto& [s, count] : shapes)
    sum += 2.0 * static_cast<double>(s.M) * static_cast<double>(s.N) * static_cast<double>(s.K) * static_cast<double>(count);
  return sum;
}

// Floating point operations that a step needs: frozen products forward and back, causal attention (2 + 5 products of which half is seen),
// adapters 2 + 4 per parameter and token. Nothing that is computed twice counts.
double step_flops(const Model& model, const AdapterSet& adapter, int64_t tokens) {
  const ModelConfig& c = model.config;
  double parameters = 0, T = static_cast<double>(tokens);
  for (const Parameter& p : adapter.parameters()) parameters += static_cast<double>(p.value.numel());
  double attention = 7.0 * static_cast<double>(c.num_hidden_layers * c.q_size()) * T * T;
  return flops_of(frozen_products(model, tokens)) + attention + 6 * parameters * T;
}

struct Best {
  double wall = 1e30, cpu = 1e30;
  void take(double w, double c) {
    wall = std::min(wall, w);
    cpu = std::min(cpu, c);
  }
};

// Gives the processor time of this time.
template <class Work>
double measure(Best& best, Work&& work) {
  const double wall = now(), cpu = process_cpu_seconds();
  work();
  const double used = process_cpu_seconds() - cpu;
  best.take(now() - wall, used);
  return used;
}

struct TrainFigures {
  double tokens_per_second = 0, step_rate = 0, library_rate = 0, share = 0, cpu_share = 0;
  std::vector<double> round_cpu_shares;  // cpu_share of every round by itself
  int64_t peak = 0;
  double flops_per_token = 0;
  double profiled_seconds = 0;  // of the one step that `profile` saw
  OpProfile profile;
};

AdapterSet random_adapter(const Model& model, int64_t rank, bool trained) {
  LoraConfig lora;
  lora.r = rank;
  lora.lora_alpha = static_cast<double>(2 * rank);
  set_targets(lora, "all");
  AdapterSet adapter = attach_lora(model.sites(), lora, trained);
  init_lora(adapter, model.sites(), lora, 42);
  return adapter;
}

TrainFigures bench_step(Context& ctx, const Model& model, int64_t tokens, const BenchOptions& o, Recompute recompute) {
  AdapterSet adapter = random_adapter(model, o.rank, true);
  Optimizer optimizer(adapter.parameters());
  std::vector<const AdapterSet*> sets = {&adapter};
  Arena dry;
  plan_activations(model, tokens, true, sets, dry, recompute);
  dry.take(Dtype::F32, {tokens, model.config.hidden_size});
  Arena memory(dry.peak());
  Arena scratch(std::max(scratch_bytes(model, tokens, true, sets), loss_scratch_bytes(model, tokens, &adapter)));
  Activations activations = plan_activations(model, tokens, true, sets, memory, recompute);
  Tensor d_hidden = memory.take(Dtype::F32, {tokens, model.config.hidden_size});
  Pass pass{&activations, nullptr, sets, &scratch, true};
  Batch batch;
  for (int64_t t = 0; t < tokens; ++t) {
    batch.tokens.push_back(static_cast<int32_t>((t * 7919 + 13) % model.config.vocab_size));
    batch.positions.push_back(static_cast<int32_t>(t));
    batch.labels.push_back(static_cast<int32_t>((t * 104729 + 7) % model.config.vocab_size));
  }
  batch.sequences = {{0, tokens, 0, tokens}};
  batch.adapter_rows = {{0, tokens, 0}};
  AdamW adamw;
  adamw.learning_rate = 1e-4f;
  auto step = [&] {
    optimizer.zero_gradients();
    decoder_forward(ctx, model, batch, pass);
    loss_and_head_gradient(ctx, model, batch, activations.hidden, d_hidden, 1.0f / static_cast<float>(tokens), {&adapter, true}, scratch);
    decoder_backward(ctx, model, batch, pass, adapter, d_hidden);
    optimizer.step(ctx, adamw, optimizer.gradient_norm(ctx), 1.0);
    ++adamw.step;
  };
  std::map<Shape, int64_t> shapes = frozen_products(model, tokens);
  std::map<Shape, Best> library;
  Best best;
  TrainFigures figures;
  for (int64_t round = 0; round <= o.repeats; ++round) {  // alternating, so that what else runs on the machine meets both
    if (round == 0) {
      step();  // the first one touches the memory
      figures.peak = peak_bytes();
      continue;
    }
    const double step_cpu = measure(best, step);
    double library_cpu = 0;
    for (const auto& [s, count] : shapes) {
      ProductTime t = time_library_product(s.M, s.N, s.K, s.nn, s.type);
      library[s].take(t.wall, t.cpu);
      library_cpu += t.cpu * static_cast<double>(count);
    }
    figures.round_cpu_shares.push_back(step_flops(model, adapter, tokens) / step_cpu / (flops_of(shapes) / library_cpu));
  }
  if (o.profile) {
    ctx.profile = &figures.profile;
    const double begin = now();
    step();
    figures.profiled_seconds = now() - begin;
    ctx.profile = nullptr;
  }
  double wall = 0, cpu = 0;
  for (const auto& [s, count] : shapes) {
    wall += library[s].wall * static_cast<double>(count);
    cpu += library[s].cpu * static_cast<double>(count);
  }
  double flops = step_flops(model, adapter, tokens), products = flops_of(shapes);
  figures.flops_per_token = flops / static_cast<double>(tokens);
  figures.tokens_per_second = static_cast<double>(tokens) / best.wall;
  figures.step_rate = flops / best.wall;
  figures.library_rate = products / wall;
  figures.share = figures.step_rate / figures.library_rate;
  figures.cpu_share = (flops / best.cpu) / (products / cpu);
  return figures;
}

// The ops of one step by their time; what takes less than half a percent is summed up on the
// screen; the JSON has all.
void print_profile(const TrainFigures& f, int64_t tokens, const std::string& dtype, Json& report) {
  std::vector<std::pair<std::string, OpProfile::Entry>> ops(f.profile.entries.begin(), f.profile.entries.end());
  std::sort(ops.begin(), ops.end(), [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  std::vector<std::vector<std::string>> rows = {{"op", "calls", "ms", "share", "GFLOP/s", "of oneDNN alone"}};
  auto add = [&](const std::string& name, const OpProfile::Entry& e) {
    const bool rated = e.flops > 0 && e.seconds > 0;
    rows.push_back({name, e.calls ? count_text(e.calls) : "", fmt::format("{:.1f}", 1e3 * e.seconds),
                    percent(e.seconds / f.profiled_seconds), rated ? fmt::format("{:.1f}", 1e-9 * e.flops / e.seconds) : "",
                    rated ? percent(e.flops / e.seconds / f.library_rate) : ""});
  };
  OpProfile::Entry small, outside{0, f.profiled_seconds, 0};
  for (const auto& [name, entry] : ops) {
    outside.seconds -= entry.seconds;
    report.push_back({{"op", name}, {"calls", entry.calls}, {"seconds", entry.seconds}, {"flops", entry.flops}});
    if (entry.seconds >= 0.005 * f.profiled_seconds) {
      add(name, entry);
    } else {
      small.calls += entry.calls;
      small.seconds += entry.seconds;
    }
  }
  if (small.calls) add("others", small);
  add("between ops", outside);
  std::fputs(table_text(fmt::format("One step of {} tokens, {}, op by op", tokens, dtype), rows).c_str(), stdout);
}

struct GenerateFigures {
  double prefill = 0, decode = 0, adapter_decode = 0, read_rate = 0, decode_rate = 0, adapter_rate = 0, cpu_share = 0;
  std::vector<double> round_cpu_shares, round_adapter_cpu_shares;  // of every round by itself
};

// Bytes of weights that one decoded token reads.
int64_t bytes_per_token(const Model& model) {
  size_t bytes = 0;
  for (const Weight* w : model.sites())
    for (const WeightPart& part : w->parts) bytes += part.weight.bytes();
  return static_cast<int64_t>(bytes);
}

GenerateFigures bench_generate(Context& ctx, const Model& model, const BenchOptions& o) {
  const AdapterSet adapter = random_adapter(model, o.rank, false);
  int64_t adapter_bytes = 0;
  for (const Parameter& p : adapter.parameters()) adapter_bytes += static_cast<int64_t>(p.value.bytes());
  Engine engine(model, o.prompt_tokens + o.new_tokens + 1, rank_columns(adapter));
  std::vector<int32_t> prompt(static_cast<size_t>(o.prompt_tokens));
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(model.config.vocab_size));
  std::vector<std::pair<const void*, int64_t>> pieces;
  auto add = [&](const Weight& w) {
    for (const WeightPart& part : w.parts) pieces.push_back({part.weight.data, static_cast<int64_t>(part.weight.bytes())});
  };
  for (const Weight* w : model.sites()) add(*w);
  Best prefill, token, adapter_prefill, adapter_token, read;
  GenerateOptions options;
  options.max_new_tokens = o.new_tokens + 1;
  auto generate = [&](const AdapterSet* with, Best& first, Best& next) {
    double start = now(), last = start, last_cpu = process_cpu_seconds();
    engine.generate(ctx, prompt, with, options, [&](int32_t) {
      double t = now(), cpu = process_cpu_seconds();
      (last == start ? first : next).take(t - last, cpu - last_cpu);
      last = t, last_cpu = cpu;
      return true;
    });
  };
  constexpr int kReads = 5;  // the best of them, as of the tokens
  GenerateFigures figures;
  for (int64_t round = 0; round <= o.repeats; ++round) {
    Best now_token, now_adapter;
    generate(nullptr, prefill, now_token);
    generate(&adapter, adapter_prefill, now_adapter);
    Best now_read;
    for (int i = 0; i < kReads; ++i) {
      const ProductTime all = time_plain_read(pieces);
      now_read.take(all.wall, all.cpu);
    }
    if (round == 0) {  // the first one touches the memory
      prefill = adapter_prefill = {};
      continue;
    }
    token.take(now_token.wall, now_token.cpu);
    adapter_token.take(now_adapter.wall, now_adapter.cpu);
    read.take(now_read.wall, now_read.cpu);
    figures.round_cpu_shares.push_back(now_read.cpu / now_token.cpu);
    figures.round_adapter_cpu_shares.push_back(now_read.cpu / now_adapter.cpu);
  }
  const double bytes = static_cast<double>(bytes_per_token(model)), more = static_cast<double>(adapter_bytes);
  figures.prefill = static_cast<double>(o.prompt_tokens) / prefill.wall;
  figures.decode = 1 / token.wall;
  figures.adapter_decode = 1 / adapter_token.wall;
  figures.read_rate = bytes / read.wall;
  figures.decode_rate = bytes / token.wall;
  figures.adapter_rate = (bytes + more) / adapter_token.wall;
  figures.cpu_share = read.cpu / token.cpu;
  return figures;
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  for (size_t at = 0; at <= list.size();) {
    size_t end = std::min(list.find(',', at), list.size());
    if (end > at) out.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

int64_t token_count(const std::string& text) {
  if (text.empty() || text.size() > 6 || text.find_first_not_of("0123456789") != std::string::npos)
    throw Error(ErrorKind::usage, "--tokens has '" + text + "', expected whole numbers up to 999999");
  return std::stoll(text);
}

void report_batch(const BatchFigures& f, const std::string& dtype, int64_t rank, Json& report) {
  const double many = static_cast<double>(BatchFigures::kSequences);
  auto row = [](const std::string& what, double sequences, double seconds, double against, const char* against_what) {
    return std::vector<std::string>{what, fmt::format("{:.1f}", sequences / seconds), fmt::format("{:.2f}", 1e3 * seconds),
                                    against > 0 ? fmt::format("{:.3f} of {}", seconds / against, against_what) : ""};
  };
  std::fputs(table_text(fmt::format("Decoding in a batch, {}, adapters of rank {}", dtype, rank),
                        {{"what", "tokens/s", "ms of a step", "time"},
                         row("1 sequence, base", 1, f.one, 0, ""),
                         row("1 sequence, adapter", 1, f.one_adapter, f.one, "base"),
                         row("8 sequences, base", many, f.many, f.one, "1 sequence"),
                         row("8 sequences, one adapter", many, f.many_one, f.many, "base"),
                         row("8 sequences, 8 adapters", many, f.many_each, f.many_one, "one adapter"),
                         {fmt::format("load an adapter of {}", bytes_text(static_cast<double>(f.adapter_bytes))), "",
                          fmt::format("{:.2f}", 1e3 * f.load_seconds), ""},
                         {"switch to another adapter", "", fmt::format("{:.4f}", 1e3 * f.switch_seconds), ""}})
                 .c_str(),
             stdout);
  std::fflush(stdout);
  report["batch"].push_back({{"dtype", dtype},
                             {"rank", rank},
                             {"sequences", BatchFigures::kSequences},
                             {"one_sequence_seconds", f.one},
                             {"one_sequence_adapter_seconds", f.one_adapter},
                             {"sequences_seconds", f.many},
                             {"sequences_one_adapter_seconds", f.many_one},
                             {"sequences_adapter_each_seconds", f.many_each},
                             {"adapter_each_against_one", f.many_each / f.many_one},
                             {"adapter_against_base", f.one_adapter / f.one},
                             {"adapter_bytes", f.adapter_bytes},
                             {"load_seconds", f.load_seconds},
                             {"switch_seconds", f.switch_seconds}});
}

void bench_dtype(Context& ctx, const std::string& dtype, const TrainConfig& config, const BenchOptions& o, Json& report) {
  reset_peak();
  const std::string& path = config.model_name_or_path;
  const bool int8 = config.frozen_matmul == "int8";
  bool bf16 = dtype == "bf16";
  ModelFiles files = path.empty() ? random_files(bf16 ? Dtype::BF16 : Dtype::F32) : open_model_files(path);
  LoadOptions load = load_options(config);
  load.bf16 = bf16;
  Model model = load_model(files, load);
  if (int8) blocks_to_int8(model);
  const Recompute recompute = least_recompute(config, model);
  const std::string name = dtype + (int8                ? ", frozen products in int8"
                                    : load.quantisation ? std::string(", base in ") + name_of(load.quantisation->type)
                                                        : "");
  std::vector<std::vector<std::string>> rows = {
      {"training step", "tokens/s", "GFLOP/s", "oneDNN alone", "share", "share of CPU time", "peak memory"}};
  for (const std::string& text : split(o.tokens)) {
    int64_t tokens = token_count(text);
    if (tokens == 0) continue;
    reset_peak();
    TrainFigures f = bench_step(ctx, model, tokens, o, recompute);
    rows.push_back({fmt::format("{} tokens, rank {}", tokens, o.rank), fmt::format("{:.1f}", f.tokens_per_second),
                    fmt::format("{:.1f}", f.step_rate * 1e-9), fmt::format("{:.1f}", f.library_rate * 1e-9), percent(f.share),
                    percent(f.cpu_share), bytes_text(static_cast<double>(f.peak))});
    report["training"].push_back({{"dtype", dtype},
                                  {"frozen_matmul", int8 ? "int8" : "exact"},
                                  {"tokens", tokens},
                                  {"rank", o.rank},
                                  {"tokens_per_second", f.tokens_per_second},
                                  {"flops_per_token", f.flops_per_token},
                                  {"flops_per_second", f.step_rate},
                                  {"library_flops_per_second", f.library_rate},
                                  {"share", f.share},
                                  {"cpu_share", f.cpu_share},
                                  {"round_cpu_shares", f.round_cpu_shares},
                                  {"peak_bytes", f.peak}});
    if (o.profile) print_profile(f, tokens, name, report["training"].back()["ops"]);
  }
  if (rows.size() > 1) std::fputs(table_text("Training, " + name, rows).c_str(), stdout);
  if (o.new_tokens == 0) return;
  GenerateFigures g = bench_generate(ctx, model, o);
  std::fputs(table_text("Generation, " + name + ", one sequence",
                        {{"what", "tokens/s", "GB/s of weights", "plain read", "share", "share of CPU time"},
                         {fmt::format("prefill of {} tokens", o.prompt_tokens), fmt::format("{:.1f}", g.prefill), "", "", "", ""},
                         {"decode", fmt::format("{:.1f}", g.decode), fmt::format("{:.1f}", g.decode_rate * 1e-9),
                          fmt::format("{:.1f}", g.read_rate * 1e-9), percent(g.decode_rate / g.read_rate), percent(g.cpu_share)},
                         {fmt::format("decode, adapter of rank {}", o.rank), fmt::format("{:.1f}", g.adapter_decode),
                          fmt::format("{:.1f}", g.adapter_rate * 1e-9), "", percent(g.adapter_rate / g.read_rate), ""}})
                 .c_str(),
             stdout);
  std::fflush(stdout);
  report["generation"].push_back({{"dtype", dtype},
                                  {"frozen_matmul", int8 ? "int8" : "exact"},
                                  {"prompt_tokens", o.prompt_tokens},
                                  {"prefill_tokens_per_second", g.prefill},
                                  {"decode_tokens_per_second", g.decode},
                                  {"decode_bytes_per_second", g.decode_rate},
                                  {"adapter_decode_tokens_per_second", g.adapter_decode},
                                  {"plain_read_bytes_per_second", g.read_rate},
                                  {"share", g.decode_rate / g.read_rate},
                                  {"cpu_share", g.cpu_share},
                                  {"round_cpu_shares", g.round_cpu_shares},
                                  {"round_adapter_cpu_shares", g.round_adapter_cpu_shares}});
  report_batch(bench_batch(ctx, model, o.rank, o.new_tokens, o.repeats), dtype, o.rank, report);
}

}  // namespace

int run_bench(const std::vector<std::string>& args) {
  TrainConfig config;
  BenchOptions o;
  std::vector<Option> extra = options_of(o);
  if (!read_config(args, "bench", config, extra)) return 0;
  for (const std::string& dtype : split(o.dtype))
    if (dtype != "f32" && dtype != "bf16") throw Error(ErrorKind::usage, "--dtype has '" + dtype + "', expected f32 or bf16");
  Context ctx;
  Json report = {{"instruction_set", instruction_set()}, {"threads", thread_count()}, {"bf16_products", has_bf16_products()}};
  report["model"] = config.model_name_or_path.empty() ? "random weights, SmolLM2-135M shape" : config.model_name_or_path;
  std::fputs(
      fmt::format("{}, {} threads; {}; best of {}\n", instruction_set(), thread_count(), report["model"].get<std::string>(), o.repeats)
          .c_str(),
      stdout);
  std::fflush(stdout);
  for (const std::string& dtype : split(o.dtype)) bench_dtype(ctx, dtype, config, o, report);
  if (o.json) write_file(*o.json, report.dump(2) + "\n");
  return 0;
}

}  // namespace loraine
