/* The writer that the conformance suite wants in a guest (conformance/host_lab.py): again and again the next
 * block of simulators/hypervisor/pattern.py to each disk, into its last 256 KiB.
 *
 * A block device is not frozen with the file systems. So before each block it writes a byte to a file on a
 * file system: there the guest's freeze holds it, as it would hold a database.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096
#define SLOTS 64
#define MOST 16

struct disk { char name[32]; char id[64]; uint64_t size; int fd; };
static struct disk disks[MOST];
static int count;

static uint32_t crc32(const unsigned char *data, size_t length) {
    uint32_t crc = ~0u;
    while (length--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void put(unsigned char **at, uint64_t value, int bytes) {
    while (bytes--) *(*at)++ = value >> (8 * bytes);
}

static int names(char found[MOST][32], const char *without) {
    int n = 0;
    struct dirent *entry;
    DIR *directory = opendir("/sys/block");
    while (directory && (entry = readdir(directory)) && n < MOST)
        if (!strncmp(entry->d_name, "vd", 2) && strcmp(entry->d_name, without))
            snprintf(found[n++], 32, "%.31s", entry->d_name);
    if (directory) closedir(directory);
    qsort(found, n, 32, (int (*)(const void *, const void *))strcmp);
    return n;
}

/* Return whether the set of disks, or the size of one, has changed; open the new set. */
static int look(const char *without) {
    char found[MOST][32], path[64], serial[32];
    int n = names(found, without), same = n == count;
    for (int i = 0; same && i < n; i++)
        same = !strcmp(found[i], disks[i].name) && lseek(disks[i].fd, 0, SEEK_END) == (off_t)disks[i].size;
    if (same) return 0;
    for (int i = 0; i < count; i++) close(disks[i].fd);
    for (count = 0; count < n; count++) {
        struct disk *disk = &disks[count];
        strcpy(disk->name, found[count]);
        snprintf(path, sizeof path, "/sys/block/%s/serial", disk->name);
        FILE *file = fopen(path, "r");
        serial[0] = 0;
        if (file) { if (!fgets(serial, sizeof serial, file)) serial[0] = 0; fclose(file); }
        snprintf(disk->id, sizeof disk->id, "%s:%s", disk->name, serial);
        snprintf(path, sizeof path, "/dev/%s", disk->name);
        disk->fd = open(path, O_RDWR | O_DIRECT | O_SYNC);
        if (disk->fd < 0) { count = 0; return 1; }
        disk->size = lseek(disk->fd, 0, SEEK_END);
    }
    return 1;
}

static uint32_t layout(void) {
    char text[MOST * 65 + 16] = "";
    for (int i = 0; i < count; i++) strcat(strcat(text, disks[i].id), "/");
    sprintf(text + strlen(text), "%d", SLOTS);
    return crc32((unsigned char *)text, strlen(text));
}

static int write_block(unsigned char *block, uint64_t generation, uint64_t first) {
    uint64_t number = generation - first;
    struct disk *disk = &disks[number % count];
    uint64_t offset = disk->size - SLOTS * BLOCK + number / count % SLOTS * BLOCK;
    unsigned char *at = block;
    memset(block, 0, BLOCK);
    memcpy(at, "BOLLARD1", 8), at += 8;
    put(&at, generation, 8), put(&at, offset, 8), put(&at, first, 8);
    put(&at, number % count, 4), put(&at, count, 4), put(&at, SLOTS, 4), put(&at, layout(), 4);
    strcpy((char *)at, "guest"), at += 64;
    memcpy(at, disk->id, 64), at += 64;
    uint64_t filler = htobe64(generation * 0x9E3779B97F4A7C15u);
    for (; at < block + BLOCK - 4; at += 8) memcpy(at, &filler, at + 8 <= block + BLOCK - 4 ? 8 : block + BLOCK - 4 - at);
    at = block + BLOCK - 4;
    put(&at, crc32(block, BLOCK - 4), 4);
    return pwrite(disk->fd, block, BLOCK, offset) == BLOCK;
}

int main(int argc, char **argv) {
    void *block;
    uint64_t generation = 0, first = 1;
    int held = open(argv[1], O_WRONLY | O_CREAT, 0600);
    if (argc != 3 || held < 0 || posix_memalign(&block, BLOCK, BLOCK)) return 1;
    for (;; usleep(10000)) {
        if (look(argv[2])) first = generation + 1;
        if (!count || pwrite(held, "x", 1, 0) != 1 || fsync(held)) continue;
        if (write_block(block, generation + 1, first)) generation++;
        else count = 0; /* it was unplugged: look again */
    }
}
