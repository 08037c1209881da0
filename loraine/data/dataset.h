// Data sets, by name or path, to encoded examples: what train and eval call. find_dataset → read_rows → split → encode.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/data/encode/encode.h"
#include "loraine/data/examples/example.h"
#include "loraine/data/order/orders.h"
#include "loraine/data/rows/hub_ids.h"

namespace loraine {

struct DataOptions {
  std::vector<std::string> datasets, eval_datasets;  // names in dataset_info.json, or paths of files and folders
  std::string dataset_dir = "data";
  FindRepository find_repository;
  std::optional<std::string>
      tokenized_path;  // a folder of encoded sets: read where it is there, which is all that counts then; else written
  std::optional<std::string> template_name;  // LLaMA-Factory's name, or `derived` for its template: null; none: the model's chat template
  int64_t cutoff_len = 2048;
  std::optional<int64_t> max_samples;  // per data set
  double val_size = 0;                 // below 1 a share, else a count
  bool train_on_prompt = false, mask_history = false;
  std::optional<std::string> default_system;
  std::optional<bool> enable_thinking = true;
  bool preserve_thinking = false;
  std::optional<std::string> tool_format;  // instead of the named template's own
  std::string today;                       // the date in llama3's tool text; empty: the machine's
  bool split_special_tokens = false;
  uint64_t seed = 42;
  Mixing mixing = Mixing::concat;        // of several sets
  std::vector<double> interleave_probs;  // one per set; empty: they take turns
  bool eval_on_each_dataset = false;
  bool streaming = false;       // rows are read while they are trained on (data/order/stream.h)
  int64_t buffer_size = 16384;  // streaming: rows among which the next one is drawn
  int64_t shards = 1;           // streaming: parts of each set, whose order changes from epoch to epoch
  DataStage stage = DataStage::sft;
  std::optional<bool> packing;  // several samples in one block (data/examples/packing.h); none: of pretraining only
  bool neat_packing = false;    // packing whose samples do not see each other
  int64_t preprocessing_batch_size = 1000;
  int64_t preprocessing_num_workers = 1;                // they share the rows: batches begin anew at each share
  int64_t skip_bad_rows = 0;                            // up to so many rows that cannot be used are dropped and counted
  std::string spill_folder;                             // where ids lie that are too many for memory (ExampleStoreOptions::folder)
  int64_t keep_whole = 0;                               // of so many samples of a set, what they were before they were cut
  bool accept_untrained = false;                        // as LLaMA-Factory: sets without one trained label are no errors
  std::optional<Error> no_tokenizer, no_chat_template;  // what is thrown where a row needs one and there is none
  int64_t vocab_size = 0;                               // above 0: ids of tokenized rows (and of every other) must lie below it
};

// A sample as it was before the cut-off.
struct WholeSample {
  std::vector<int32_t> ids;
  std::vector<bool> kept;  // which of them are in the example
};

// A question that is to be answered (stage grpo): the ids of its prompt, none of which is labelled, and what is told to those who judge
// the answers.
struct AskedExample {
  Example prompt;
  Conversation conversation;             // ends with the question
  std::optional<std::string> reference;  // the row's own answer, where it has one
};

struct Dataset {
  std::vector<Example> examples;
  std::vector<PairExample> pairs;          // stage pairs: in the place of examples
  std::vector<FeedbackExample> feedback;   // stage feedback
  std::vector<DecisionExample> decisions;  // stage decisions
  std::vector<AskedExample> asked;         // stage prompts
  int64_t num_rows = 0;                    // rows read
  int64_t num_samples = 0;                 // those that were encoded; packed, an example holds several
  int64_t num_truncated = 0, num_dropped = 0;
  int64_t num_untrained = 0;                // samples without one label that is predicted: nothing is learnt from them
  int64_t num_empty_answers = 0;            // of the others: those with an answer that is empty, of which the end token alone is trained
  int64_t num_tokens = 0, num_trained = 0;  // trained: labels that count, before the shift
  int64_t longest = 0;
  std::vector<int32_t> whole_lengths;      // tokens of each sample before it was cut; empty where texts of stage pt are packed
  std::vector<WholeSample> whole_samples;  // keep_whole: of the first examples, where they are samples; empty of those that were not cut
  std::vector<std::string> dropped_rows;   // the first few: where and why
  size_t size() const { return examples.size() + pairs.size() + feedback.size() + decisions.size() + asked.size(); }
};

// The cutoff_len that leaves all but `share` of the examples whole, a multiple of 8; 0 where lengths are not known.
int64_t sufficient_cutoff(const Dataset& set, double share);

struct NamedSet {
  std::string name;
  Dataset set;
};

struct DataSplit {
  Dataset train, eval;
  std::vector<NamedSet> evals;          // eval_on_each_dataset: in the place of `eval`, in the order given
  std::vector<std::string> recognised;  // a line on the layout of each set that was given by its path
};

// A stable 64-bit hash of the token ids and labels in their order: the same data encoded the same way. Kept in checkpoints.
uint64_t data_fingerprint(std::span<const Example> examples);

// Turns "a, b" into names.
std::vector<std::string> split_names(const std::string& comma_list);

// tokenizer may be null when all sets are tokenized; chat_template may be null when template_name is given. With a named template the
// tokenizer gets the template's stop words (apply_template_tokens) and `special` the eos, pad and stop ids that generation must use.
DataSplit open_data(const DataOptions& options, Tokenizer* tokenizer, const ChatTemplate* chat_template, SpecialTokens& special);

// What is generated from: the conversation up to its last answer, and that answer. LLaMA-Factory's predict stage: cut by infer_seqlen,
// thoughts of earlier answers left out where the template reasons.
struct Prompt {
  std::vector<int32_t> input_ids, label_ids;
};
// The rows of options.eval_datasets; arguments as open_data takes them. Up to skip_bad_rows rows are left out.
std::vector<Prompt> open_prompts(const DataOptions& options, Tokenizer* tokenizer, const ChatTemplate* chat_template,
                                 SpecialTokens& special);

}  // namespace loraine
