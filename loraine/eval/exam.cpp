// Files to questions, questions to prompts, prompts to letters.
#include "loraine/eval/exam.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "loraine/core/missing_file.h"
#include "loraine/data/order/orders.h"
#include "loraine/eval/csv.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/records/python_number.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

struct Layout {
  const char* name;
  const char* folders[3];            // of test, validation, train
  const char* suffixes[3];           // behind the subject's name
  std::vector<std::string> columns;  // question, A, B, C, D, answer, where the files have a heading
};

const Layout& layout_of(const std::string& name) {
  static const Layout kLayouts[] = {
      {"mmlu", {"test", "val", "dev"}, {"_test", "_val", "_dev"}, {}},
      {"ceval", {"test", "val", "dev"}, {"_test", "_val", "_dev"}, {"question", "A", "B", "C", "D", "answer"}},
      {"cmmlu", {"test", nullptr, "dev"}, {"", "", ""}, {"Question", "A", "B", "C", "D", "Answer"}},
  };
  for (const Layout& layout : kLayouts)
    if (name == layout.name) return layout;
  throw Error(ErrorKind::usage, fmt::format("task: `{}` is no examination", name), "it is mmlu_test, ceval_validation or cmmlu_test");
}

size_t split_of(const std::string& name) {
  const std::array<std::string, 3> splits = {"test", "validation", "train"};
  const auto at = std::ranges::find(splits, name);
  if (at == splits.end()) throw Error(ErrorKind::usage, fmt::format("task: the part `{}` is not test, validation or train", name));
  return static_cast<size_t>(at - splits.begin());
}

std::vector<ExamQuestion> read_questions(const Layout& layout, const std::string& file) {
  std::vector<CsvRow> rows = read_csv(read_file(file), file);
  std::array<size_t, 6> place = {0, 1, 2, 3, 4, 5};
  constexpr size_t kAbsent = SIZE_MAX;
  size_t first = 0;
  if (!layout.columns.empty()) {
    if (rows.empty()) throw Error(ErrorKind::bad_data, file + ": has no heading");
    first = 1;
    for (size_t c = 0; c < 6; ++c) {
      const auto found = std::ranges::find(rows[0].fields, layout.columns[c]);
      place[c] = found == rows[0].fields.end() ? kAbsent : static_cast<size_t>(found - rows[0].fields.begin());
      if (place[c] == kAbsent && c < 5)
        throw Error(ErrorKind::bad_data, fmt::format("{}: the heading has no column `{}`", file, layout.columns[c]));
    }
  }
  std::vector<ExamQuestion> questions;
  for (size_t r = first; r < rows.size(); ++r) {
    const auto field = [&](size_t c) -> std::string {
      if (place[c] == kAbsent) return {};
      if (place[c] >= rows[r].fields.size())
        throw Error(ErrorKind::bad_data, fmt::format("{}, line {}: has {} fields, question, A, B, C, D and answer are expected", file,
                                                     rows[r].line, rows[r].fields.size()));
      return rows[r].fields[place[c]];
    };
    questions.push_back({field(0), {field(1), field(2), field(3), field(4)}, field(5)});
    const std::string& answer = questions.back().answer;
    if (!answer.empty() && (answer.size() != 1 || answer[0] < 'A' || answer[0] > 'D'))
      throw Error(ErrorKind::bad_data, fmt::format("{}, line {}: the answer is `{}`, expected A, B, C or D", file, rows[r].line, answer));
  }
  return questions;
}

// Where an examination's files come from, and how they lie.
std::string where_from(const Layout& layout, const std::string& folder) {
  return fmt::format(
      "the files are in LLaMA-Factory's repository, folder evaluation/{0}: put its mapping.json and what {0}.zip holds into {1}, so that "
      "{1}/mapping.json and {1}/{2}/SUBJECT{3}.csv (the questions) and {1}/{4}/SUBJECT{5}.csv (the examples) are there, or the last two "
      "below "
      "{1}/data; task_dir is the folder above ({0} in it); docs/eval.md shows the layout of each file",
      layout.name, folder, layout.folders[0], layout.suffixes[0], layout.folders[2], layout.suffixes[2]);
}

std::string file_of(const Layout& layout, const std::string& folder, size_t split, const std::string& subject) {
  if (!layout.folders[split])
    throw Error(ErrorKind::usage, fmt::format("task: {} has no such part", layout.name), "its questions are in `test`");
  const std::string inside = fmt::format("{}/{}{}.csv", layout.folders[split], subject, layout.suffixes[split]);
  std::error_code failed;
  for (const std::string& file : {folder + "/data/" + inside, folder + "/" + inside})
    if (fs::is_regular_file(file, failed)) return file;
  throw MissingFile(fmt::format("{}/{}: no such file", folder, inside), where_from(layout, folder));
}

struct Wording {
  const char *system_head, *system_tail, *answer;
};
Wording wording_of(const std::string& lang) {
  if (lang == "zh") return {"以下是中国关于", "考试的单项选择题，请选出其中的正确答案。\n\n", "\n答案："};
  return {"The following are multiple choice questions (with answers) about ", ".\n\n", "\nAnswer:"};
}

std::string question_text(const ExamQuestion& question, const Wording& wording) {
  std::string text = question.question;
  for (int c = 0; c < 4; ++c) text += fmt::format("\n{}. {}", static_cast<char>('A' + c), question.choices[c]);
  return text + wording.answer;
}

std::string results_log(const std::vector<Figure>& figures) {
  std::string text;
  for (const Figure& figure : figures)
    if (!figure.sums.empty()) text += fmt::format("{}{:>15}: {:.2f}", text.empty() ? "" : "\n", figure.name, value_of(figure));
  return text;
}

}  // namespace

Exam read_exam(const std::string& task, const std::string& task_dir) {
  const size_t dash = task.find('_');
  const Layout& layout = layout_of(task.substr(0, dash));
  const size_t split = split_of(dash == std::string::npos ? "" : task.substr(dash + 1));
  const std::string folder = task_dir + "/" + layout.name;
  if (std::error_code failed; !fs::exists(folder + "/mapping.json", failed))
    throw MissingFile(fmt::format("task {}: {}/mapping.json: no such file", task, folder), where_from(layout, folder));
  const OrderedJson mapping = parse_json_file_in_order(folder + "/mapping.json");
  Exam exam{task, {}};
  for (const auto& [id, entry] : mapping.items()) {
    if (!entry.is_object() || !entry.value("name", OrderedJson()).is_string() || !entry.value("category", OrderedJson()).is_string())
      throw Error(ErrorKind::bad_data, fmt::format("{}/mapping.json: `{}` needs a `name` and a `category`", folder, id));
    exam.subjects.push_back({id, entry["name"], entry["category"], read_questions(layout, file_of(layout, folder, 2, id)),
                             read_questions(layout, file_of(layout, folder, split, id))});
  }
  return exam;
}

std::vector<std::vector<Conversation>> exam_conversations(const Exam& exam, const ExamOptions& options) {
  const Wording wording = wording_of(options.lang);
  ShuffleSeeds seeds(static_cast<uint32_t>(options.seed));
  std::vector<std::vector<Conversation>> all;
  for (const ExamSubject& subject : exam.subjects) {
    auto& conversations = all.emplace_back();
    for (const ExamQuestion& question : subject.questions) {
      Conversation conversation;
      std::vector<int64_t> order = numpy_permutation(static_cast<int64_t>(subject.shots.size()), seeds.next());
      order.resize(std::min(order.size(), static_cast<size_t>(options.n_shot)));
      for (int64_t i : order) {
        const ExamQuestion& shot = subject.shots[static_cast<size_t>(i)];
        conversation.messages.push_back({Role::user, question_text(shot, wording)});
        conversation.messages.push_back({Role::assistant, shot.answer});
      }
      conversation.messages.push_back({Role::user, question_text(question, wording)});
      std::string& first = conversation.messages.front().content;
      first = wording.system_head + subject.name + wording.system_tail + first;
      conversations.push_back(std::move(conversation));
    }
  }
  return all;
}

void take_exam(const Subject& subject, const Exam& exam, const ExamOptions& options, EvalResult& result) {
  const Tokenizer& tokenizer = *subject.loaded.text.tokenizer;
  std::vector<int32_t> letters;
  for (const char* letter : {"A", "B", "C", "D"}) letters.push_back(tokenizer.encode(letter).back());
  std::vector<std::vector<int32_t>> prompts;
  for (const auto& conversations : exam_conversations(exam, options))
    for (const Conversation& conversation : conversations) prompts.push_back(subject.loaded.prompt_ids(conversation, subject.adapter));

  const size_t batch = static_cast<size_t>(options.batch_size);
  int64_t rows = 1;
  for (size_t first = 0; first < prompts.size(); first += batch) {
    int64_t sum = 0;
    for (size_t i = first; i < std::min(first + batch, prompts.size()); ++i) sum += static_cast<int64_t>(prompts[i].size());
    rows = std::max(rows, sum);
  }
  Forward forward(subject, rows);
  std::string outputs;
  for (size_t first = 0; first < prompts.size(); first += batch) {
    const auto part = std::span(prompts).subspan(first, std::min(batch, prompts.size() - first));
    for (const auto& logits : forward.last_logits(part, letters))
      outputs += static_cast<char>('A' + (std::ranges::max_element(logits) - logits.begin()));
    subject.progress(exam.task, static_cast<int64_t>(first + part.size()), static_cast<int64_t>(prompts.size()));
  }

  std::vector<Figure> figures;
  for (const char* category : {"Average", "STEM", "Social Sciences", "Humanities", "Other"})
    figures.push_back({.name = category, .scale = 100, .proportion = true});
  OrderedJson answers = OrderedJson::object();
  size_t next = 0;
  for (const ExamSubject& one : exam.subjects) {
    const auto category = std::ranges::find(figures, one.category, &Figure::name);
    if (category == figures.end())
      throw Error(ErrorKind::bad_data, fmt::format("mapping.json: the category of `{}` is `{}`, expected STEM, Social Sciences, Humanities "
                                                   "or Other",
                                                   one.id, one.category));
    answers[one.id] = OrderedJson::object();
    for (size_t i = 0; i < one.questions.size(); ++i, ++next) {
      answers[one.id][std::to_string(i)] = std::string(1, outputs[next]);
      if (one.questions[i].answer.empty()) continue;  // a part whose answers are not published
      const double right = one.questions[i].answer[0] == outputs[next] ? 1 : 0;
      figures[0].add(right);
      if (category != figures.begin()) category->add(right);
    }
  }
  result.files.emplace_back("results.json", python_json(answers, 2, false));
  result.files.emplace_back("results.log", results_log(figures));
  for (Figure& figure : figures) {
    figure.name = exam.task + "_" + figure.name;
    add_figure(result, std::move(figure));
  }
}

}  // namespace loraine
