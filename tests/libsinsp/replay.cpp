// A source plugin inside the driver, which plays back a file of raw events: headers and parameters just as they stand
// in memory, one event after another.
//
// It hands on whatever an event says of itself, right or wrong: what the engine makes of it is the question. Only the
// length is checked, since it tells where the next event starts. Each event is handed on in front of a page that nobody
// may read, so that an engine which reads on behind it crashes.
#include "replay.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace {

// The engine reads the first byte of a parameter before it looks at its length. Behind an empty one at the very end there
// must be a byte to read, as there is in a batch of the translator's.
constexpr size_t SPARE_BYTES = 1;

struct replay {
    std::string error;
    std::vector<char> bytes;
    size_t next = 0;
    // Where the page begins that nobody may read, and how much room is in front of it.
    char *guard = nullptr;
    size_t room = 0;
    ss_plugin_event *event = nullptr;
};

// There is one inspector and one capture in a run, so the plugin and its open instance are one object.
replay *of(void *plugin) { return static_cast<replay *>(plugin); }

ss_plugin_t *init(const ss_plugin_init_input *, ss_plugin_rc *rc) {
    *rc = SS_PLUGIN_SUCCESS;
    return reinterpret_cast<ss_plugin_t *>(new replay);
}

void destroy(ss_plugin_t *plugin) { delete of(plugin); }

ss_instance_t *open(ss_plugin_t *plugin, const char *path, ss_plugin_rc *rc) {
    replay *self = of(plugin);
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        self->error = std::string(path) + ": " + std::strerror(errno);
        *rc = SS_PLUGIN_FAILURE;
        return nullptr;
    }
    self->bytes.assign(std::istreambuf_iterator<char>(file), {});
    self->next = 0;
    // No event is longer than the file.
    size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    self->room = (self->bytes.size() + SPARE_BYTES + page - 1) / page * page;
    void *area = mmap(nullptr, self->room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED || mprotect(static_cast<char *>(area) + self->room, page, PROT_NONE) != 0) {
        self->error = std::string("mmap: ") + std::strerror(errno);
        *rc = SS_PLUGIN_FAILURE;
        return nullptr;
    }
    self->guard = static_cast<char *>(area) + self->room;
    *rc = SS_PLUGIN_SUCCESS;
    return reinterpret_cast<ss_instance_t *>(self);
}

// The area is left to the end of the process: the engine may still look at the last event.
void close(ss_plugin_t *, ss_instance_t *) {}

ss_plugin_rc next_batch(ss_plugin_t *plugin, ss_instance_t *, uint32_t *events, ss_plugin_event ***batch) {
    replay *self = of(plugin);
    size_t left = self->bytes.size() - self->next;
    *events = 0;
    if (left == 0) {
        return SS_PLUGIN_EOF;
    }
    ss_plugin_event header{};
    std::memcpy(&header, self->bytes.data() + self->next, left < sizeof header ? left : sizeof header);
    if (header.len < sizeof header || header.len > left) {
        self->error = "the event at byte " + std::to_string(self->next) + " says that it has " +
                      std::to_string(header.len) + " bytes, where " + std::to_string(left) + " are left";
        return SS_PLUGIN_FAILURE;
    }
    // The engine is done with the event before. The spare byte is 0, as are all that were never written.
    char *event = self->guard - SPARE_BYTES - header.len;
    std::memcpy(event, self->bytes.data() + self->next, header.len);
    self->event = reinterpret_cast<ss_plugin_event *>(event);
    self->next += header.len;
    *events = 1;
    *batch = &self->event;
    return SS_PLUGIN_SUCCESS;
}

plugin_api make_api() {
    plugin_api api{};
    api.get_required_api_version = [] { return PLUGIN_API_VERSION_STR; };
    api.get_name = [] { return "replay"; };
    api.get_description = [] { return "plays back a file of raw events"; };
    api.get_contact = [] { return "the creance project"; };
    api.get_version = [] { return "0.1.0"; };
    api.get_last_error = [](ss_plugin_t *plugin) { return of(plugin)->error.c_str(); };
    api.init = init;
    api.destroy = destroy;
    // Id 0 and no event source: the plugin may hand out any event of a system call.
    api.get_id = []() -> uint32_t { return 0; };
    api.get_event_source = [] { return ""; };
    api.open = open;
    api.close = close;
    api.next_batch = next_batch;
    return api;
}

}  // namespace

const plugin_api *replay_plugin() {
    static const plugin_api api = make_api();
    return &api;
}
