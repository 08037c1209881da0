// The Python module loraine._loraine, under python/loraine/__init__.py: long calls let go of the interpreter's lock, Ctrl-C stops them, and
// errors become exceptions. The one place of the Python edge that maps kinds of errors.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <chrono>
#include <future>
#include <optional>

#include "loraine/chat_model.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/transfers.h"
#include "loraine/core/context.h"
#include "loraine/core/missing_file.h"
#include "loraine/core/signals.h"
#include "loraine/core/stopped.h"
#include "loraine/io/hub/hub.h"

namespace nb = nanobind;

namespace loraine {
namespace {

using Words = std::vector<std::string>;
using Messages = std::vector<std::pair<std::string, std::string>>;

constexpr std::chrono::milliseconds kSignalInterval{50};

void raise(const std::string& kind, const std::string& message, const std::string& hint) {
  PyObject* type = kind == "usage"                       ? PyExc_ValueError
                   : kind == "missing_file"              ? PyExc_FileNotFoundError
                   : kind == "io" || kind == "not_found" ? PyExc_OSError
                   : kind == "out_of_memory"             ? PyExc_MemoryError
                   : kind == "unsupported"               ? PyExc_NotImplementedError
                                                         : PyExc_RuntimeError;
  PyErr_SetString(type, (hint.empty() ? message : message + "\nhint: " + hint).c_str());
}

const char* kind_of(ErrorKind kind) {
  if (kind == ErrorKind::usage) return "usage";
  if (kind == ErrorKind::io || kind == ErrorKind::not_found) return "io";
  if (kind == ErrorKind::out_of_memory) return "out_of_memory";
  return kind == ErrorKind::unsupported ? "unsupported" : "other";
}

// What Python raised while C++ runs without the interpreter's lock; it leaves when the lock is held again.
class Raised {
 public:
  // True when a signal's Python handler raised (Ctrl-C: KeyboardInterrupt). Signals reach the main thread only, as everywhere in Python.
  bool by_signal() {
    const nb::gil_scoped_acquire held;
    if (PyErr_CheckSignals() == 0) return false;
    keep(nb::python_error());
    return true;
  }
  void keep(nb::python_error&& error) {
    if (!error_) error_.emplace(std::move(error));
  }
  void leave() {
    if (error_) throw nb::python_error(std::move(*error_));
  }

 private:
  std::optional<nb::python_error> error_;
};

// A command of the program, in a thread of its own; this one looks for signals meanwhile.
void run(int (*command)(const Words&, const std::atomic<bool>&), const Words& words) {
  std::atomic<bool> stop{false};
  Raised raised;
  int code = 0;
  {
    const nb::gil_scoped_release released;
    std::future<int> result = std::async(std::launch::async, [&] {
      const SignalsElsewhere elsewhere;
      const StopsTransfers transfers(stop);
      start_threads();
      try {
        return command(words, stop);
      } catch (const Stopped&) { return kExitStopped; }  // a download or an upload
    });
    while (result.wait_for(kSignalInterval) != std::future_status::ready)
      if (raised.by_signal()) stop = true;
    code = result.get();
  }
  raised.leave();
  if (code != 0) throw Error(ErrorKind::internal, "the command ended with " + std::to_string(code));
}

// One call of a ChatModel. on_text: None, or a function of a piece of text that returns whether to go on.
std::vector<Response> answer(ChatModel& model, const Messages& messages, ChatOptions options, const nb::object& on_text) {
  std::vector<ChatMessage> list;
  for (const auto& [role, content] : messages) list.push_back({role, content});
  Raised raised;
  auto last_look = std::chrono::steady_clock::now();
  options.keep_going = [&] {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_look < kSignalInterval) return true;
    last_look = now;
    return !raised.by_signal();
  };
  const auto put = [&](std::string_view piece) {
    const nb::gil_scoped_acquire held;
    try {
      return nb::cast<bool>(on_text(nb::str(piece.data(), piece.size())));
    } catch (nb::python_error& error) {
      raised.keep(std::move(error));
      return false;
    }
  };
  std::vector<Response> responses;
  const bool streams = !on_text.is_none();
  {
    const nb::gil_scoped_release released;
    if (streams) responses.push_back(model.stream_chat(list, put, options));
    else responses = model.chat(list, options);
  }
  raised.leave();
  return responses;
}

std::string text_of(const Response& r) {
  const nb::str text(r.response_text.data(), r.response_text.size());
  return std::string("Response(response_text=") + nb::repr(text).c_str() + ", response_length=" + std::to_string(r.response_length) +
         ", prompt_length=" + std::to_string(r.prompt_length) + ", finish_reason='" + r.finish_reason + "')";
}

void add_chat_model(nb::module_& m) {
  nb::class_<Response>(m, "Response")
      .def_ro("response_text", &Response::response_text)
      .def_ro("response_length", &Response::response_length, "tokens, the one that ended it included")
      .def_ro("prompt_length", &Response::prompt_length, "tokens")
      .def_ro("finish_reason", &Response::finish_reason, "stop, length or cancelled")
      .def("__repr__", text_of);
  nb::class_<ChatOptions>(m, "ChatOptions")
      .def(nb::init<>())
      .def_rw("adapter", &ChatOptions::adapter)
      .def_rw("system", &ChatOptions::system)
      .def_rw("tools", &ChatOptions::tools)
      .def_rw("max_new_tokens", &ChatOptions::max_new_tokens)
      .def_rw("top_k", &ChatOptions::top_k)
      .def_rw("seed", &ChatOptions::seed)
      .def_rw("do_sample", &ChatOptions::do_sample)
      .def_rw("temperature", &ChatOptions::temperature)
      .def_rw("top_p", &ChatOptions::top_p)
      .def_rw("repetition_penalty", &ChatOptions::repetition_penalty)
      .def_rw("num_beams", &ChatOptions::num_beams)
      .def_rw("length_penalty", &ChatOptions::length_penalty)
      .def_rw("num_return_sequences", &ChatOptions::num_return_sequences);
  nb::class_<ChatModel>(m, "ChatModel")
      .def(
          "__init__",
          [](ChatModel* model, const std::map<std::string, std::string>& arguments) {
            const nb::gil_scoped_release released;
            new (model) ChatModel(Arguments(arguments));
          },
          nb::arg("arguments"))
      .def("answer", answer, nb::arg("messages"), nb::arg("options"), nb::arg("on_text").none())
      .def(
          "score_texts",
          [](ChatModel& model, const std::vector<std::string>& texts, const std::optional<std::string>& adapter, int64_t max_length) {
            const nb::gil_scoped_release released;
            return model.get_scores(texts, {adapter, max_length});
          },
          nb::arg("texts"), nb::arg("adapter").none(), nb::arg("max_length"))
      .def(
          "score_chats",
          [](ChatModel& model, const std::vector<Messages>& chats, const std::optional<std::string>& adapter, int64_t max_length) {
            std::vector<std::vector<ChatMessage>> lists;
            for (const Messages& messages : chats) {
              std::vector<ChatMessage>& list = lists.emplace_back();
              for (const auto& [role, content] : messages) list.push_back({role, content});
            }
            const nb::gil_scoped_release released;
            return model.get_scores(lists, {adapter, max_length});
          },
          nb::arg("chats"), nb::arg("adapter").none(), nb::arg("max_length"))
      .def("adapters", &ChatModel::adapters, nb::call_guard<nb::gil_scoped_release>())
      .def("load_adapter", &ChatModel::load_adapter, nb::arg("name"), nb::arg("path"), nb::call_guard<nb::gil_scoped_release>())
      .def("unload_adapter", &ChatModel::unload_adapter, nb::arg("name"), nb::call_guard<nb::gil_scoped_release>())
      .def("notes", &ChatModel::notes);
}

}  // namespace
}  // namespace loraine

NB_MODULE(_loraine, m) {
  using namespace loraine;
  show_transfers();
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const ChatError& error) { raise(error.kind, error.what(), error.hint); } catch (const MissingFile& error) {
      raise("missing_file", error.what(), error.hint);
    } catch (const Error& error) { raise(kind_of(error.kind), error.what(), error.hint); }
  });
  add_chat_model(m);
  m.def("train", [](const Words& words) {
    run(run_train, words);
    return only_evaluates(words) ? evaluation_results(words) : training_results(words);
  });
  m.def("export", [](const Words& words) { run(run_export, words); });
  m.def("evaluate", [](const Words& words) {
    run(run_eval, words);
    return evaluation_results(words);
  });
}
