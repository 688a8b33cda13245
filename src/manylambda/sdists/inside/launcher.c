/* A program for Windows that runs another: what the file of its own name with `.txt` says, with its own arguments
   behind that, as they are. Builds start compilers without a shell, which would be needed for a `.bat`. It includes no
   headers and needs no C library, so that it is compiled in a moment. */

typedef unsigned long DWORD;
typedef __WCHAR_TYPE__ wchar_t;
typedef void *HANDLE;
typedef struct {
    DWORD size;
    wchar_t *unused[3];
    DWORD place[7], flags;
    unsigned short shown, more;
    void *reserved;
    HANDLE input, output, error;
} STARTUP;
typedef struct {
    HANDLE process, thread;
    DWORD process_id, thread_id;
} CHILD;

#define SYSTEM __declspec(dllimport)
SYSTEM DWORD GetModuleFileNameW(HANDLE, wchar_t *, DWORD);
SYSTEM wchar_t *GetCommandLineW(void);
SYSTEM HANDLE CreateFileW(const wchar_t *, DWORD, DWORD, void *, DWORD, DWORD, HANDLE);
SYSTEM int ReadFile(HANDLE, void *, DWORD, DWORD *, void *);
SYSTEM int WriteFile(HANDLE, const void *, DWORD, DWORD *, void *);
SYSTEM int MultiByteToWideChar(unsigned, DWORD, const char *, int, wchar_t *, int);
SYSTEM HANDLE GetStdHandle(DWORD);
SYSTEM int CreateProcessW(
    const wchar_t *, wchar_t *, void *, void *, int, DWORD, void *, const wchar_t *, STARTUP *, CHILD *);
SYSTEM DWORD WaitForSingleObject(HANDLE, DWORD);
SYSTEM int GetExitCodeProcess(HANDLE, DWORD *);
SYSTEM _Noreturn void ExitProcess(unsigned);

enum { INPUT = -10, OUTPUT = -11, ERROR = -12, UTF8 = 65001, USE_HANDLES = 0x100, OPEN_EXISTING = 3, SHARE_READ = 1 };

#define READ 0x80000000
#define MOST 32768

static wchar_t own[MOST], line[MOST];
static char text[MOST];

static void fail(const char *what)
{
    DWORD written;
    const char *end = what;
    while (*end)
        end++;
    WriteFile(GetStdHandle(ERROR), what, (DWORD)(end - what), &written, 0);
    ExitProcess(127);
}

static const wchar_t *behind_program(const wchar_t *word)
{
    int is_quoted = 0;
    for (; *word && (is_quoted || (*word != L' ' && *word != L'\t')); word++)
        if (*word == L'"')
            is_quoted = !is_quoted;
    return word;
}

void begin(void)
{
    DWORD length = GetModuleFileNameW(0, own, MOST - 4), size = 0, status = 127;
    while (length && own[length - 1] != L'.')
        length--;
    own[length++] = L't';
    own[length++] = L'x';
    own[length++] = L't';
    own[length] = 0;
    HANDLE file = CreateFileW(own, READ, SHARE_READ, 0, OPEN_EXISTING, 0, 0);
    if (file == (HANDLE)-1 || !ReadFile(file, text, MOST, &size, 0))
        fail("error: the program has no command beside it\n");
    int used = MultiByteToWideChar(UTF8, 0, text, (int)size, line, MOST);
    for (const wchar_t *rest = behind_program(GetCommandLineW()); *rest; rest++) {
        if (used >= MOST - 1)
            fail("error: the command is too long\n");
        line[used++] = *rest;
    }
    line[used] = 0;
    STARTUP start = {
        .size = sizeof start,
        .flags = USE_HANDLES,
        .input = GetStdHandle(INPUT),
        .output = GetStdHandle(OUTPUT),
        .error = GetStdHandle(ERROR),
    };
    CHILD child;
    if (!CreateProcessW(0, line, 0, 0, 1, 0, 0, 0, &start, &child))
        fail("error: the program's command cannot be started\n");
    WaitForSingleObject(child.process, 0xFFFFFFFF);
    GetExitCodeProcess(child.process, &status);
    ExitProcess(status);
}
