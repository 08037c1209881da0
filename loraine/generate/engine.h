// Greedy and sampled continuation with a KV cache, of several sequences at once, each with its own adapter or none. The one generator:
// chat, trace, bench and export's check use it. Ids only, no text.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "loraine/core/token_mask.h"
#include "loraine/generate/fair_queue.h"
#include "loraine/generate/kv_pages.h"
#include "loraine/generate/sampling.h"
#include "loraine/model/decoder.h"

namespace loraine {

class BeamSearch;
class GpuAnswers;
struct GpuBase;

inline constexpr int64_t kPrefillRows = 512;  // of prompts, in one step

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
  // Gets the logits [V] of each new token before anything is done to them, on any thread; may be empty. Not of a beam search.
  std::function<void(std::span<const float>)> on_logits = {};
  // Whose keys and values of a prompt's beginning may be used for another one's: the same bytes of the adapter, and whatever else the
  // caller keeps apart (a salt). nullopt: nobody's. Models with recurrent layers, experts or integer products share none.
  std::optional<std::string> prefix_key = {};
  std::optional<std::string> base_prefix_key = {};  // of aLoRA: the same of the base, whose rows come before the invocation
  std::string client = {};                          // who asks: requests take turns by adapter and client
  // Number of a request with the same prompt and adapter that is not read yet: the prompt is read once for both. 0: none.
  int64_t same_prompt_as = 0;
  // Gets what the model ends with for each id of the prompt, behind its last norm, [C], in order, while it is read; with max_new_tokens 0
  // nothing follows. Not with beam search. It must not call the engine.
  std::function<void(std::span<const float>)> on_prompt_hidden = {};
  bool tells_prompt() const { return on_prompt_logprobs || on_prompt_hidden; }
};

// What an engine has to do, by requests: `running` have pages of the cache, `waiting` do not.
struct EngineLoad {
  int64_t running = 0, waiting = 0;
  int64_t rows = 0, capacity = 0;       // of the cache: in pages that are held, of which those kept for later prompts are `kept`; all
  int64_t kept = 0, preempted = 0;      // rows; how often a request gave its pages back to be computed once more
  int64_t prompt_rows = 0, reused = 0;  // of all prompts so far: computed, found in the cache
};

// Requests join with `submit` and run with every `step`, in batches whose rows are ordered by adapter. What a request answers is what it
// answers alone, to the bit, whoever runs beside it and in whatever order things happen: prompts are read in pieces whose borders are
// multiples of kKvPage rows, each multiplied by itself; a row of a decoding step has the same bits in any company; what lost its pages is
// computed once more in the same way.
class Engine {
 public:
  // capacity: rows of keys and values, shared by what runs at once, in pages of kKvPage; a request may get as long as all of them. Where
  // they do not last, the request that began last gives its own back and goes on later. sequences: most requests that run at once, where
  // a beam search over a model with states counts as many as it has beams (seats_for). gpu: where it computes, with the cache there and
  // logits that come to the host; products of the GPU's library may have other bits in other company.
  Engine(const Model& model, int64_t capacity, int64_t max_rank_columns, int64_t sequences = 1, GpuBase* gpu = nullptr);
  ~Engine();
  // Makes room for adapters of more columns (rank_columns below) than so far. Between steps; what runs goes on with the same bits.
  void reserve_rank_columns(int64_t columns);

  // The number of the request. Throws usage when the prompt is empty, or fills the cache, or the adapter is wider than planned.
  int64_t submit(Request request);
  // Reads pieces of the prompts that wait, at most kPrefillRows rows of them (while others decode as many as take a tenth of a second),
  // then adds a token to every sequence that ran before; a beam search has num_beams of them, each with rows of the cache of its own.
  // False: nothing is left to do. What an on_token throws comes out of here, and ends its request.
  bool step(Context& ctx);
  // A request that is held takes no part in steps until it is let go.
  void hold(int64_t request, bool held);
  bool done(int64_t request) const;
  bool started(int64_t request) const;    // whether it has left the queue
  int64_t reused(int64_t request) const;  // rows of its prompt that were found in the cache
  EngineLoad load() const;
  // The answer of a request, which leaves the engine; when it is not done, what there is of it.
  std::vector<int32_t> take(int64_t request);

  // One sequence from beginning to end: submit, step, take. on_token as in Request.
  std::vector<int32_t> generate(Context& ctx, std::span<const int32_t> prompt, const AdapterSet* adapter, const GenerateOptions& options,
                                const std::function<bool(int32_t)>& on_token = {}, const std::function<bool()>& keep_going = {});

 private:
  struct Entry {
    int64_t number = 0;
    Request request;
    std::vector<int32_t> seen;  // prompt and answer
    std::mt19937_64 random;
    // Pages of the cache, of a beam search those of each beam in turn; rows filled; whether it has left the queue, and when.
    std::vector<int32_t> pages;
    int64_t kv_length = 0, began = -1;
    std::vector<int64_t> slots;    // of its states, where the model has any: of each beam
    int64_t limit = 0;             // most tokens of the answer
    int64_t invoked_from = 0;      // row from which the adapter is on: 0, but for aLoRA
    int64_t reused = 0, told = 0;  // rows of the prompt: found in the cache, told to whoever asks for them
    bool finished = false, held = false, begun = false;
    int64_t leader = 0;                  // the request that reads its prompt, while that is so
    std::vector<int64_t> followers;      // those whose prompt it reads
    std::shared_ptr<BeamSearch> search;  // with several beams
    int64_t beams = 1;
    int64_t prompt_length() const { return static_cast<int64_t>(request.prompt.size()); }
    int64_t room() const { return prompt_length() + limit; }  // rows of the cache, for each beam
    int64_t pages_of_beam() const { return (room() + kKvPage - 1) / kKvPage; }
    int64_t computed() const { return static_cast<int64_t>(seen.size()) - 1; }  // rows before the one that runs next
    bool placed() const { return began >= 0; }
    bool reading() const { return kv_length < prompt_length(); }
    bool replaying() const { return !search && !reading() && kv_length < computed(); }
    bool runs() const { return placed() && !finished && !held; }
    const int32_t* pages_of(int64_t beam) const { return pages.data() + beam * pages_of_beam(); }
    int64_t slot_of(int64_t beam) const { return slots.size() > 1 ? slots[static_cast<size_t>(beam)] : slots.front(); }
  };
  // Rows of one sequence in a batch.
  struct Piece {
    Entry* entry;
    int64_t rows;
  };
  void plan(int64_t rank_columns);  // memory of batches of rows_ rows

  // Memory and turns (engine_memory.cpp)
  void join(Entry& entry);
  void wait(Entry& entry);
  void admit();
  bool place(Entry& entry);
  void find_base_prefix(Entry& entry);
  bool fits(const Entry& entry) const;
  bool grow(Entry& entry, int64_t rows);
  int64_t seats_of(const Entry& entry) const;
  int64_t seats_taken() const;
  std::vector<int64_t> free_slots(int64_t count) const;
  int32_t take_page();
  bool preempt_after(const Entry& entry);
  void give_back(Entry& entry);
  void leave(Entry& entry);
  void keep_prefix(Entry& entry);
  bool shares_prefix(const Entry& entry) const;
  bool reads_by_itself(const Entry& entry) const;
  void fork(Entry& entry, std::vector<Entry*>& sampled);
  void part_from_leader(Entry& entry);
  void copy_page(int32_t to, int32_t from);
  void copy_slot(int64_t to, int64_t from);
  std::vector<Tensor> states() const;

  int64_t prompt_budget() const;
  void read_prompts(Context& ctx);
  int64_t read_whole_pieces(Context& ctx, std::span<Entry* const> reading, int64_t budget);
  int64_t read_ends(Context& ctx, std::span<Entry* const> reading, int64_t budget);
  void replay(Context& ctx);
  void prompts_read(Context& ctx, std::span<const Piece> pieces);
  void decode(Context& ctx, std::span<Entry*> group);
  void decode_beams(Context& ctx, Entry& entry);
  void advance_beams(Context& ctx, Entry& entry, int64_t first_row, int64_t rows);
  void follow_parents(const Entry& entry, std::span<const int64_t> parents, int64_t first_row);
  void run(Context& ctx, std::span<const Piece> pieces, bool by_row = false);
  void forward(Context& ctx, const Batch& batch, Pass& pass);
  void logits_of(Context& ctx, const Tensor& logits, std::span<const int64_t> rows, const AdapterSet* set);
  void add_tokens(Context& ctx, std::span<Entry* const> entries, std::span<const int64_t> rows);
  void tell_prompt(Context& ctx, Entry& entry, int64_t rows, int64_t first_row);
  void deliver(Entry& entry, int32_t id);

  const Model& model_;
  int64_t capacity_, sequences_, rows_, piece_rows_, rank_columns_ = 0, next_ = 1, begun_ = 0;
  bool alone_ = false;   // whether the rows of a prompt feel those beside them
  bool states_ = false;  // whether layers carry a state from row to row
  KvCache cache_;
  KvPages pages_;
  PrefixTree prefixes_;
  FairQueue queue_;
  EngineLoad counts_;
  double seconds_per_row_ = 0;  // of prompts
  Arena activation_memory_, scratch_;
  Activations activations_;
  std::unique_ptr<GpuAnswers> gpu_;   // in the place of cache, activations and scratch
  std::vector<float> logits_;         // [group, V]
  std::map<int64_t, Entry> entries_;  // by number: in the order in which they came
};

// Bytes that an Engine of these sizes takes.
size_t engine_bytes(const Model& model, int64_t capacity, int64_t max_rank_columns, int64_t sequences);
// Of device memory, where it computes on a GPU.
size_t engine_gpu_bytes(const GpuBase& gpu, int64_t capacity, int64_t max_rank_columns, int64_t sequences);

// The `sequences` of an Engine that has room for so many requests, each with so many beams.
int64_t seats_for(const Model& model, int64_t requests, int64_t beams);

// Most columns that a set keeps per row at any site: what an Engine is planned for.
int64_t rank_columns(const AdapterSet& set);

}  // namespace loraine
