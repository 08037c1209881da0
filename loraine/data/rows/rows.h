// Rows of data files as conversations or token ids, before encoding. Used by dataset.cpp and the readers of each kind of file.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/data/decisions/question.h"
#include "loraine/data/encode/encode.h"
#include "loraine/data/rows/hub_ids.h"

namespace loraine {

enum class Formatting : uint8_t { alpaca, sharegpt, openai, tokenized };

// One entry of dataset_info.json. Columns and tags that are empty do not exist (also: every column not listed once `columns` is given).
struct DatasetInfo {
  std::string name, folder, file_name;
  Formatting formatting = Formatting::alpaca;
  std::optional<int64_t> num_samples;
  std::optional<double> weight;                 // so many times as many rows are drawn, as in v1 of LLaMA-Factory
  bool from_hub = false;                        // a repository's folder, in file_name: the files of one split are looked for in it
  std::string split = "train", subset, inside;  // of a repository: which rows, of which configuration, in which of its folders
  bool plain = false;                           // the entry names no columns: of stage decisions they are told from the rows
  bool recognise = false;                       // a file or folder of one's own: the rest is told from its rows (recognise.h)
  DataStage stage = DataStage::sft;
  bool ranking = false;       // rows of two answers, one preferred
  bool thinking_note = true;  // openai: LLaMA-Factory's "detailed thinking off" in the system text
  struct Columns {
    std::string prompt = "instruction", query = "input", response = "output", history, messages = "conversations", system, tools;
    std::string chosen, rejected, kto_tag;
    std::string input_ids = "input_ids", labels = "labels";
    std::string choices = "choices", label = "label", question;  // stage decisions
  } columns;
  struct Tags {
    std::string role = "from", content = "value", user = "human", assistant = "gpt", observation = "observation",
                function = "function_call", system = "system";
  } tags;
};

// What `name` stands for: an entry of `folder`'s dataset_info.json, else a file or folder by its path, else a repository (`recognise` is
// set then). A `folder` that begins with { holds the entries themselves, as JSON text; their files are named from here. Throws usage when
// it is neither, bad_data about the entry; unsupported for sets that would have to be fetched. find_repository: the folder of a hub's
// repository of that name on this machine, or empty; may be absent.
DatasetInfo find_dataset(const std::string& folder, const std::string& name, const FindRepository& find_repository = {});

// Of a row of stage decisions: what is asked, the choices, and which is right.
struct DecisionRow {
  DecisionKind kind = DecisionKind::choice;
  std::string question;            // may be empty
  std::vector<std::string> names;  // of the choices; yes and no in that order
  std::vector<double> numbers;     // of scores, the lowest first
  int32_t label = 0;               // place among them
};

struct Row {
  std::shared_ptr<const std::string> file;  // for messages
  int64_t line = 0;                         // from 1; 0: the file has none
  int64_t column = 0;                       // of the mistake, from 1; 0: the whole row
  int64_t number = 0;                       // row of a JSON list, from 1; 0 in JSON lines
  std::string dropped;                      // why it cannot be used; empty: it can
  Conversation conversation;
  std::optional<Example> tokens;                // formatting: tokenized
  std::optional<Message> rejected;              // stage pairs: beside the conversation's last answer, which is the chosen one
  std::shared_ptr<const DecisionRow> decision;  // stage decisions: the conversation ends with what is asked about
  bool desirable = false;                       // stage feedback
  bool unanswered = false;                      // stage prompts: the last answer is empty because the row has none
  std::string place() const;                    // "data/a.json, line 12 (row 3)"
  size_t bytes() const;                         // of its texts and ids
};

// All rows in the order of the file(s); at most `limit`, at least one. A bad row is among them, with `dropped` set, so that the rows'
// numbering, and with it every order, stays. Throws bad_data about a file of which rows cannot be told apart. `layout`: what was recognised
// where info.recognise asks for it, in words.
std::vector<Row> read_rows(DatasetInfo info, std::optional<int64_t> limit, std::string* layout = nullptr);
// The same, each as soon as it is read, until `take` returns false; files may be larger than memory.
void each_row(DatasetInfo info, std::optional<int64_t> limit, const std::function<bool(Row&&)>& take, std::string* layout = nullptr);

}  // namespace loraine
