// `loraine bench`: speed of a training step, of prefill and of decoding, each beside what this machine can do at all: the rate of
// oneDNN's own products on the same shapes, the rate of a plain read of the weights. Measured in one process, best of several rounds; the
// JSON has the shares of every round too (tests/speed/ratios_test.py).
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "loraine/cli/bench/batch.h"
#include "loraine/cli/bench/generate.h"
#include "loraine/cli/bench/measure.h"
#include "loraine/cli/bench/random_model.h"
#include "loraine/cli/bench/step.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/core/count_text.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/model/int8.h"
#include "loraine/model/load.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/load_options.h"

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

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

// The ops of one step by their time; what takes less than half a percent is summed up on the
// screen; the JSON has all.
void print_profile(const StepFigures& f, int64_t tokens, const std::string& dtype, Json& report) {
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
  const double many = static_cast<double>(BatchFigures::kSequences), most = static_cast<double>(BatchFigures::kMost);
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
                         row("32 sequences, base", most, f.most, f.one, "1 sequence"),
                         row("32 sequences, 8 adapters", most, f.most_each, f.most, "base"),
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
                             {"most_sequences", BatchFigures::kMost},
                             {"most_sequences_seconds", f.most},
                             {"most_sequences_adapters_seconds", f.most_each},
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
  ModelFiles files = path.empty() ? random_files(bf16 ? Dtype::BF16 : Dtype::F32) : open_model_files(path, hub_access(config));
  LoadOptions load = load_options(config);
  load.bf16 = bf16;
  Model model = load_model(files, load);
  if (int8) layers_to_integers(model);
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
    StepFigures f = bench_step(ctx, model, tokens, {o.rank, o.repeats, recompute, o.profile});
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
  GenerateFigures g = bench_generate(ctx, model, o.rank, o.prompt_tokens, o.new_tokens, o.repeats);
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
