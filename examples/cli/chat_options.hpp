// The options of the commands that read conversations.
#pragma once

#include <CLI/CLI.hpp>

#include "chat_data.hpp"

namespace deltatune::cli {

inline void add_chat_options(CLI::App& command, ChatDataOptions& options) {
  command.add_option("--chat-template", options.template_file, "Jinja template that writes conversations for the model [the adapter's or the model's own]")
      ->type_name("FILE")
      ->group("Conversations");
  command
      .add_option("--long", options.long_conversations, "Conversations longer than --max-length: cut (their first turns are left out) or drop (all of it is)")
      ->check(CLI::IsMember({"cut", "drop"}))
      ->group("Conversations")
      ->capture_default_str();
  command.add_option("--date", options.date, "What templates that print the date print, such as 2026-11-28 [as in training, else today]")
      ->type_name("DATE")
      ->group("Conversations");
}

}  // namespace deltatune::cli
