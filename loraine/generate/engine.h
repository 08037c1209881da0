// Greedy and sampled continuation with a KV cache, of several sequences at once, each with its own adapter or none. The one generator:
// chat, trace, bench and export's check use it. Ids only, no text.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "loraine/core/token_mask.h"
#include "loraine/generate/sampling.h"
#include "loraine/model/decoder.h"

namespace loraine {

class BeamSearch;

struct Request {
  std::vector<int32_t> prompt;
  const AdapterSet* adapter = nullptr;  // nullptr: the base; it must stay until the request is taken
  GenerateOptions options;
  // Gets each new id (stop ids included) and returns false to stop; may be empty. It must not call the engine. Of a beam search it gets the
  // ids of the answer once that is found.
  std::function<bool(int32_t)> on_token;
  std::function<bool()> keep_going = {};  // asked at every step of a beam search; false ends it with what there is
  // With options.logprobs: called for each new id, before on_token. With options.prompt_logprobs: for each id of the prompt but the first,
  // in order, while it is read; with max_new_tokens 0 nothing follows. Not with beam search. They must not call the engine.
  std::function<void(const TokenLogprobs&)> on_logprobs = {}, on_prompt_logprobs = {};
  // What the answer may be, such as a grammar's state: asked before each token is chosen, told of it afterwards. Not with beam search.
  std::shared_ptr<TokenMask> mask = {};
};

// What an engine has to do, by requests: `running` have their rows of the cache, `waiting` do not yet.
struct EngineLoad {
  int64_t running = 0, waiting = 0;
  int64_t rows = 0, capacity = 0;  // of the cache: reserved, all
};

// Requests join with `submit` and run with every `step`, in one batch whose rows are ordered by adapter. What a request answers is what it
// answers alone: prompts are read one after the other, and a row of a decoding step has the same bits in any company.
class Engine {
 public:
  // capacity: rows of keys and values, shared by what runs at once; a request takes as many as its prompt and answer may get long, and
  // waits until they are free. Prompts are read in chunks of at most 512 rows. sequences: most requests that run at once.
  Engine(const Model& model, int64_t capacity, int64_t max_rank_columns, int64_t sequences = 1);
  // Makes room for adapters of more columns (rank_columns below) than so far. Between steps; what runs goes on with the same bits.
  void reserve_rank_columns(int64_t columns);

  // The number of the request. Throws usage when the prompt is empty, or fills the cache, or the adapter is wider than planned.
  int64_t submit(Request request);
  // Reads a chunk of the first prompt that waits, then adds a token to every sequence that runs; a beam search has num_beams of them, each
  // with rows of the cache of its own. False: nothing is left to do. What an
  // on_token throws comes out of here, and ends its request.
  bool step(Context& ctx);
  // A request that is held takes no part in steps until it is let go; its rows of the cache stay its own.
  void hold(int64_t request, bool held);
  bool done(int64_t request) const;
  bool started(int64_t request) const;  // whether it has left the queue
  EngineLoad load() const;
  // The answer of a request, which leaves the engine; when it is not done, what there is of it.
  std::vector<int32_t> take(int64_t request);

  // One sequence from beginning to end: submit, step, take. on_token as in Request.
  std::vector<int32_t> generate(Context& ctx, std::span<const int32_t> prompt, const AdapterSet* adapter, const GenerateOptions& options,
                                const std::function<bool(int32_t)>& on_token = {}, const std::function<bool()>& keep_going = {});

 private:
  struct Entry {
    Request request;
    std::vector<int32_t> seen;  // prompt and answer
    std::mt19937_64 random;
    int64_t kv_start = -1, kv_length = 0;  // its rows of the cache, -1: none yet; those filled
    int64_t slot = 0;                      // of its states, where the model has any
    int64_t limit = 0;                     // most tokens of the answer
    bool finished = false, held = false;
    std::shared_ptr<BeamSearch> search;  // with several beams
    int64_t beams = 1;
    int64_t prompt_length() const { return static_cast<int64_t>(request.prompt.size()); }
    int64_t room() const { return prompt_length() + limit; }  // rows of the cache, for each beam
    int64_t rows() const { return room() * beams; }
    bool reading() const { return kv_length < prompt_length(); }
  };
  void plan(int64_t rank_columns);  // memory of batches of rows_ rows
  bool place(Entry& entry);
  void read_prompts(Context& ctx);
  void decode(Context& ctx, std::span<Entry*> group);
  void decode_beams(Context& ctx, Entry& entry);
  void advance_beams(Context& ctx, Entry& entry, int64_t first_row, int64_t rows);
  void follow_parents(const Entry& entry, std::span<const int64_t> parents, int64_t first_row);
  void run(Context& ctx, Batch& batch, std::span<Entry* const> entries, std::span<const int64_t> lengths);
  void add_tokens(Context& ctx, std::span<Entry* const> entries, int64_t first_row);
  void tell_prompt(Context& ctx, Entry& entry, int64_t first, int64_t rows);
  void deliver(Entry& entry, int32_t id);

  const Model& model_;
  int64_t sequences_, rows_, rank_columns_ = 0, next_ = 1;
  KvCache cache_;
  Arena activation_memory_, scratch_;
  Activations activations_;
  std::vector<float> logits_;         // [group, V]
  std::map<int64_t, Entry> entries_;  // by number: in the order in which they came
};

// Bytes that an Engine of these sizes takes.
size_t engine_bytes(const Model& model, int64_t capacity, int64_t max_rank_columns, int64_t sequences);

// Most columns that a set keeps per row at any site: what an Engine is planned for.
int64_t rank_columns(const AdapterSet& set);

}  // namespace loraine
